//go:build !(linux && amd64)

// Command banger is what users type.
package main

import (
	"fmt"
	"os"
	"runtime"
)

// hostUnready is the exit code that says so.
const hostUnready = 5

func main() {
	fmt.Fprintf(os.Stderr, "banger: works on Linux on x86-64 only, this is %s on %s\n", runtime.GOOS, runtime.GOARCH)
	os.Exit(hostUnready)
}
