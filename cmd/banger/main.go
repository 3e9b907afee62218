//go:build linux && amd64

// Command banger is what users type.
package main

import (
	"os"

	"banger/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
