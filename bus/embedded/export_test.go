package embedded

// Hear has the guard hear a message of the server.
func (s *Server) Hear(text string) { s.guard.hear(text) }
