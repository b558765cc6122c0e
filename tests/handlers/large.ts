// Prints a text of 3 MiB in one call: of console.log, or of process.stdout.write.

const size = 3 * 1024 * 1024;
const line = "0123456789abcdef".repeat(size / 16);
process.stdout.write("Content-Type: text/plain\n\n");
if (process.argv.includes("console")) {
  console.log(line);
} else {
  process.stdout.write(line);
}
