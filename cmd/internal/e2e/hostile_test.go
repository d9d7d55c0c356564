package e2e

import "testing"

func (c *shared) hostile(t *testing.T) { t.Parallel() }
