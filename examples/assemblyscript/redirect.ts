// Redirects to the path in the query: ?to=/somewhere
//
// npm install && npm run build

const query = process.env.get("QUERY_STRING");
if (query.startsWith("to=/") && !query.startsWith("to=//")) {
  process.stdout.write("Location: " + query.substring(3) + "\n\n");
} else {
  process.stdout.write("Status: 400\nContent-Type: text/plain\n\nexpected ?to=/path\n");
}
