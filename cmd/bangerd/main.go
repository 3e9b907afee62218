// Command bangerd owns all state and all host plumbing of one installation.
package main

import (
	"os"

	"banger/internal/daemon"
)

func main() { os.Exit(daemon.Main(os.Args[1:], os.Stdout, os.Stderr)) }
