package english

// TooLate is tooLate, for a test that itself imports kubectl.
func TooLate() error { return tooLate }
