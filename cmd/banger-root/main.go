// Banger-root does for one user's bangerd what only root can do. It takes no
// argument: sudo says who the user is.
package main

import (
	"os"

	"banger/internal/privileged/server"
)

func main() { os.Exit(server.Main(os.Stdout, os.Stderr)) }
