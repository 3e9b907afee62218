package dnscmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"banger"
	"banger/internal/resolver"
)

// How long the host may take to answer, and to read its configuration anew.
const (
	askLimit    = 10 * time.Second // two rounds of resolv.conf(5)'s 5 s
	reloadLimit = time.Minute
)

// ThisHost is the one that this process runs on.
func ThisHost() Host {
	return Host{Host: resolver.Host{Root: "/"}, Root: os.Geteuid() == 0, Ask: ask, Run: reload}
}

// ask asks as programs do, by getent(1) of the C library: what this program, which
// is linked to none, would find out by itself is another thing. Not its ahosts, which
// says nothing on a host that has no other address than the loopback's.
func ask(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "getent", "hosts", name).Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer within %v", askLimit)
	case errors.As(err, &exit) && exit.ExitCode() == 2: // "not found" (getent(1))
		return nil, errors.New("not known")
	case err != nil:
		return nil, fmt.Errorf("getent: %w", err)
	}
	var all []netip.Addr
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 {
			if a, err := netip.ParseAddr(f[0]); err == nil {
				all = append(all, a)
			}
		}
	}
	return all, nil
}

// reload has a resolver read its files.
func reload(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return banger.Errorf(banger.HostUnready, "the file is as it should be, but %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String())).
			WithRemedy("have the resolver read its configuration yourself")
	}
	return nil
}
