package layout

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"banger"
)

// maxSocketPath is what sun_path of unix(7) holds, less the final NUL.
const maxSocketPath = 107

// qmpSocket is the longest path below STATE that a socket has.
const qmpSocket = "vms/00000000/qmp.sock"

// hostRun is where the host keeps volatile files; a parameter for tests.
const hostRun = "/run"

// Resolve reads the environment (BANGER_* before XDG_*) for the user uid. It
// looks at which runtime directories are usable and makes nothing. A relative
// path, and one too long for a socket, is Invalid.
//
// As root an XDG_RUNTIME_DIR that other users cannot enter, which is what a
// login gives root, counts as unusable: VMMs run as other users.
func Resolve(env func(string) string, uid int) (Layout, error) {
	return resolve(env, uid, hostRun)
}

func resolve(env func(string) string, uid int, hostRun string) (Layout, error) {
	r := resolver{env: env, uid: uid, hostRun: hostRun}
	l := Layout{
		State:      r.state(),
		Config:     r.home("XDG_CONFIG_HOME", ".config"),
		Data:       r.home("XDG_DATA_HOME", ".local/share"),
		root:       uid == 0,
		socket:     r.path("BANGER_SOCKET"),
		configFile: r.path("BANGER_CONFIG"),
	}
	l.Run = r.run(l.State)
	if r.err != nil {
		return Layout{}, r.err
	}
	from := "BANGER_RUN_DIR"
	if l.socket != "" {
		from = "BANGER_SOCKET"
	}
	if err := fits(l.Socket(), from); err != nil {
		return Layout{}, err
	}
	if err := fits(filepath.Join(l.State, qmpSocket), "BANGER_STATE_DIR"); err != nil {
		return Layout{}, err
	}
	return l, nil
}

func fits(socket, variable string) error {
	if len(socket) <= maxSocketPath {
		return nil
	}
	return banger.Errorf(banger.Invalid, "path of the socket %s has %d bytes, Linux allows %d", socket, len(socket), maxSocketPath).
		WithRemedy("set %s to a shorter path", variable)
}

// A resolver reads variables until the first that is wrong.
type resolver struct {
	env     func(string) string
	uid     int
	hostRun string
	err     error
}

// path returns the absolute path in a variable, "" when it is unset or empty.
func (r *resolver) path(variable string) string {
	p := r.env(variable)
	if p == "" {
		return ""
	}
	if !filepath.IsAbs(p) {
		if r.err == nil {
			r.err = banger.Errorf(banger.Invalid, "%s is %q, which is not an absolute path", variable, p).
				WithRemedy("set %s to an absolute path, or unset it", variable)
		}
		return ""
	}
	return filepath.Clean(p)
}

func (r *resolver) state() string {
	if p := r.path("BANGER_STATE_DIR"); p != "" {
		return p
	}
	if r.uid == 0 && r.env("XDG_STATE_HOME") == "" {
		return "/var/lib/banger"
	}
	return r.home("XDG_STATE_HOME", ".local/state")
}

func (r *resolver) run(state string) string {
	if p := r.path("BANGER_RUN_DIR"); p != "" {
		return p
	}
	if p := r.env("XDG_RUNTIME_DIR"); filepath.IsAbs(p) && r.usable(p) {
		return filepath.Join(p, "banger")
	}
	if r.uid == 0 {
		return filepath.Join(r.hostRun, "banger")
	}
	if p := filepath.Join(r.hostRun, "user", strconv.Itoa(r.uid)); r.usable(p) {
		return filepath.Join(p, "banger")
	}
	return filepath.Join(state, "run")
}

// home returns banger's directory below an XDG base directory.
func (r *resolver) home(variable, fallback string) string {
	if p := r.path(variable); p != "" {
		return filepath.Join(p, "banger")
	}
	home := r.path("HOME")
	if home == "" && r.err == nil {
		home, r.err = homeOf(r.uid)
	}
	return filepath.Join(home, fallback, "banger")
}

// homeOf asks the user database: HOME is unset under cron and in containers.
func homeOf(uid int) (string, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err == nil && !filepath.IsAbs(u.HomeDir) {
		err = fmt.Errorf("home directory %q", u.HomeDir)
	}
	if err != nil {
		return "", banger.Errorf(banger.Invalid, "HOME is not set, and user %d has no home directory: %w", uid, err).
			WithRemedy("set HOME, or BANGER_STATE_DIR and the XDG_ directories")
	}
	return u.HomeDir, nil
}

// usable reports whether dir is a directory of the user's own, and for root one
// that VMMs can get through.
func (r *resolver) usable(dir string) bool {
	fi, err := os.Stat(dir)
	if err != nil || !fi.IsDir() || ownerOf(fi) != r.uid {
		return false
	}
	if r.uid == 0 {
		return closedTo(dir) == ""
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}
