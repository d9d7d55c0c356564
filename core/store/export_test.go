package store

// SetJump overrides by how much recovery raises the revision.
func SetJump(c *Config, jump int64) { c.jump = jump }

// DecodeMark decodes the content of a mark's file, and EncodeMark makes it.
var DecodeMark = decodeMark

// EncodeMark is DecodeMark's inverse.
func EncodeMark(m Mark) []byte {
	data := m.encode()
	return data[:]
}
