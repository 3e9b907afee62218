package server

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	systemBus  = "unix:path=/run/dbus/system_bus_socket"
	scopeLimit = 3 * time.Second // nobody may wait long for a bus that hangs
)

// ownScope asks systemd, at the bus of that address, to move this process into
// a scope of its own, which goes with it. sudo has left it in that of whatever
// it was typed in: a session's or a terminal's, whose end would be its own.
func ownScope(ctx context.Context, bus string, uid uint32) error {
	ctx, stop := context.WithTimeout(ctx, scopeLimit)
	defer stop() // which closes the connection, too
	c, err := dbus.Connect(bus, dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	type property struct {
		Name  string
		Value any
	}
	type unit struct { // another one, to be made along with it: none
		Name       string
		Properties []property
	}
	return c.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").CallWithContext(ctx, "org.freedesktop.systemd1.Manager.StartTransientUnit", 0,
		fmt.Sprintf("banger-root-%d-%d.scope", uid, os.Getpid()), "fail", []property{
			{"Description", fmt.Sprintf("banger-root of uid %d", uid)},
			{"PIDs", []uint32{uint32(os.Getpid())}},
			{"CollectMode", "inactive-or-failed"},
		}, []unit{}).Err
}
