package bustest

func callCases() []Case      { return nil }
func streamCases() []Case    { return nil }
func leaseCases() []Case     { return nil }
func blobCases() []Case      { return nil }
func closeCases() []Case     { return nil }
func forbiddenCases() []Case { return nil }
