io.write("Content-Type: text/plain\n\n")
if os.getenv("PATH_INFO") == "/echo" then
    io.write(io.read("*a"))
else
    local name = os.getenv("QUERY_STRING"):match("name=([^&]*)") or "world"
    io.write("Hello, " .. name .. "!\n")
end
