package store

// SetJump overrides by how much recovery raises the revision.
func SetJump(c *Config, jump int64) { c.jump = jump }
