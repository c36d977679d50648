//go:build tools

// Names the programs that are built, so that the module is required by something.
package tools

import (
	_ "github.com/opencontainers/runc"
)
