//go:build tools

// Names the programs that are built, so that the module is required by something.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
