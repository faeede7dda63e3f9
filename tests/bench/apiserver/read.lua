-- Reads one path over and over.
wrk.headers["Authorization"] = "Bearer bench-token"
