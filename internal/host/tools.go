package host

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger"
)

// tools is the allow-list: each program that banger may start on the host, and
// the Debian package that has it.
var tools = map[string]string{
	"banger-root":        "banger", // beside bangerd; started by a bangerd that is root
	"apt-config":         "apt",
	"apt-get":            "apt",
	"dpkg-deb":           "dpkg",
	"firecracker":        "", // no package has it
	"dpkg-query":         "dpkg",
	"mke2fs":             "e2fsprogs",
	"mmdebstrap":         "mmdebstrap",
	"newuidmap":          "uidmap",
	"newgidmap":          "uidmap",
	"passt":              "passt",
	"qemu-img":           "qemu-utils",
	"qemu-system-x86_64": "qemu-system-x86",
	"rm":                 "coreutils",
	"unshare":            "util-linux",
}

// ErrMissing is that a tool is nowhere to be found.
var ErrMissing = errors.New("not installed")

// sbin is searched after PATH: an ordinary user's PATH does not have it.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// At makes h run the program at an absolute path as tool; "" changes nothing.
func (h *Host) At(tool, path string) *Host {
	if path == "" {
		return h
	}
	places := maps.Clone(h.places)
	if places == nil {
		places = map[string]string{}
	}
	places[tool] = path
	return &Host{path: h.path, places: places}
}

// runnable reports whether there is a program at path.
func runnable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// Look returns the absolute path of an approved tool. One that is missing is
// HostUnready, with the package to install.
func (h *Host) Look(tool string) (string, error) {
	pkg, ok := tools[tool]
	if !ok {
		return "", banger.Errorf(banger.Internal, "%s is not an approved tool", tool)
	}
	if p := h.places[tool]; p != "" {
		if !runnable(p) {
			return "", banger.Errorf(banger.HostUnready, "%s, which is to be run as %s, is no program", p, tool).
				WithRemedy("correct its path in the configuration or the environment, then banger daemon restart")
		}
		return p, nil
	}
	dirs := slices.Concat(filepath.SplitList(h.path), sbin)
	// A relative PATH entry means whatever directory we are in.
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !filepath.IsAbs(dir) })
	for _, dir := range dirs {
		p := filepath.Join(dir, tool)
		if runnable(p) {
			return p, nil
		}
	}
	// The PATH is that of whoever started the daemon, which may be long ago.
	return "", banger.Errorf(banger.HostUnready, "%s is %w, or not where bangerd looks: %s", tool, ErrMissing, strings.Join(dirs, ":")).
		WithRemedy("sudo apt install %s; if it is there and in your PATH: banger daemon restart", pkg)
}
