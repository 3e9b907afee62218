package daemon

import (
	"context"
	"net"
	"os"

	"banger"
	"banger/internal/bundle"
	"banger/internal/vm"
)

// Inner parts, for tests in the external package.
var (
	TakeLock = takeLock
	GroupsOf = groupsOf
	Wrong    = wrong
	Routing  = routing
)

// BuildBundles returns how a daemon builds bundles with b.
func BuildBundles(b bundle.Builder) func(ctx context.Context, dir string, rep vm.Reporter) (banger.Bundle, error) {
	return bundles{builder: b, one: make(chan struct{}, 1)}.Build
}

// RootFailure is why banger-root did not start.
var RootFailure = rootFailure

// PlaceOf says what became of a lock file.
func PlaceOf(lock *os.File, path string) string {
	return map[place]string{atHome: "at home", moved: "moved", deleted: "deleted"}[placeOf(lock, path)]
}

// Listen opens the daemon's socket, and returns how it is looked after.
func Listen(path string) (l net.Listener, mend func(prepare func() error) error, err error) {
	s, err := listen(path)
	if err != nil {
		return nil, nil, err
	}
	return s, s.mend, nil
}

// What of the host's network is the installation's, and what is taken.
var (
	LinksOf = linksOf
	Routes  = routes
)
