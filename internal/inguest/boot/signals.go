package boot

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// IgnoreTermination has this process outlive what inits send to everything at a
// shutdown. The signals are caught, not ignored: that commands would inherit.
func IgnoreTermination() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	go func() {
		for range c {
		}
	}()
}
