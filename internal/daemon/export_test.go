package daemon

import "net"

// Inner parts, for tests in the external package.
var (
	TakeLock = takeLock
	GroupsOf = groupsOf
)

// Listen opens the daemon's socket, and returns how it is looked after.
func Listen(path string) (l net.Listener, mend func(prepare func() error) error, err error) {
	s, err := listen(path)
	if err != nil {
		return nil, nil, err
	}
	return s, s.mend, nil
}
