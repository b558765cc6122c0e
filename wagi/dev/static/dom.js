// Makes and finds elements. What a guest or a client has sent is always text, never markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function button(label, onclick) {
  return make("button", {type: "button", onclick}, label);
}

// A titled text that scrolls, and can be scrolled with the keyboard.
export function textBlock(title, text) {
  return [
    make("h3", {}, title),
    make("pre", {tabIndex: 0, role: "group", "aria-label": title}, text),
  ];
}

// Sends an action of the page; returns its result, with `error` if it failed.
export async function post(action, fields) {
  try {
    const response = await fetch(action, {method: "POST", body: JSON.stringify(fields)});
    return await response.json();
  } catch (error) {
    return {error: `the page's server does not answer: ${error.message}`};
  }
}

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export function textOf(base64) {
  return new TextDecoder().decode(bytesOf(base64));
}

// The text, or null if the bytes are not a text that a shell or a form can hold.
export function exactText(base64) {
  try {
    const text = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true}).decode(bytesOf(base64));
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

export const formatTime = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);
