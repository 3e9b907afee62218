// Package resolver is the host's own resolver as far as banger concerns it: which
// program it is, and the one file that has it ask bangerd for the names of VMs. It
// starts nothing and asks nobody.
package resolver

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger"
)

// A Kind is a program that can be told which server knows a domain.
type Kind string

const (
	Resolved       Kind = "resolved"       // systemd-resolved
	NetworkManager Kind = "networkmanager" // the dnsmasq that NetworkManager runs
	Dnsmasq        Kind = "dnsmasq"        // a dnsmasq of its own
)

// Kinds are all of them.
func Kinds() []string { return []string{string(Resolved), string(NetworkManager), string(Dnsmasq)} }

// dirs are where each looks for files of others.
var dirs = map[Kind]string{
	Resolved:       "/etc/systemd/resolved.conf.d",
	NetworkManager: "/etc/NetworkManager/dnsmasq.d",
	Dnsmasq:        "/etc/dnsmasq.d",
}

// Reload is the command after which a resolver has read its files.
func Reload(k Kind) []string {
	return map[Kind][]string{
		Resolved:       {"systemctl", "restart", "systemd-resolved.service"}, // reload: only since systemd 256
		NetworkManager: {"nmcli", "general", "reload", "dns-full"},
		Dnsmasq:        {"systemctl", "restart", "dnsmasq.service"}, // SIGHUP reads no configuration
	}[k]
}

// A Host is a host by its files; Root is "/", or what tests put in its place.
type Host struct{ Root string }

func (h Host) path(p string) string { return filepath.Join(h.Root, p) }

// maxFile bounds what is read of a file of the host's, bytes.
const maxFile = 1 << 20

// read returns a file's text; one that cannot be read says nothing.
func (h Host) read(p string) string {
	b, err := os.ReadFile(h.path(p))
	if err != nil || len(b) > maxFile {
		return ""
	}
	return string(b)
}

// Detect says which resolver the host's programs ask. HostUnready if it is none
// that can be told of a domain.
func (h Host) Detect() (Kind, error) {
	servers := h.nameservers()
	local := asksLoopback(servers)
	switch {
	case slices.ContainsFunc(servers, isStub) || h.asksResolved():
		return Resolved, nil
	case local && h.managerRunsDnsmasq():
		return NetworkManager, nil
	case local && (h.there(dirs[Dnsmasq]) || h.there("/etc/dnsmasq.conf")):
		return Dnsmasq, nil
	}
	words := make([]string, len(servers))
	for i, s := range servers {
		words[i] = s.String()
	}
	asked := strings.Join(words, ", ")
	if asked == "" {
		asked = "nobody"
	}
	return "", banger.Errorf(banger.HostUnready, "this host's programs ask %s for names, and nothing on it can be told who knows .vm", asked).
		WithRemedy("install systemd-resolved or dnsmasq and have it asked; where one is, name it: --resolver dnsmasq")
}

func asksLoopback(servers []netip.Addr) bool {
	return slices.ContainsFunc(servers, netip.Addr.IsLoopback)
}

// AsksItself says whether a resolver on the host itself is asked for names, if
// only one of several.
func (h Host) AsksItself() bool { return asksLoopback(h.nameservers()) || h.asksResolved() }

// isStub says whether systemd-resolved listens there: "127.0.0.53 and 127.0.0.54"
// (systemd-resolved.service(8)).
func isStub(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// Servers are those that the host's programs ask, best first: a C library asks three.
func (h Host) Servers() (all []netip.AddrPort) {
	const most, port = 3, 53
	for _, a := range h.nameservers() {
		if len(all) < most {
			all = append(all, netip.AddrPortFrom(a, port))
		}
	}
	return all
}

// nameservers are those of resolv.conf(5).
func (h Host) nameservers() (all []netip.Addr) {
	for line := range strings.Lines(h.read("/etc/resolv.conf")) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// asksResolved reports whether the C library asks systemd-resolved past resolv.conf.
func (h Host) asksResolved() bool {
	for line := range strings.Lines(h.read("/etc/nsswitch.conf")) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "hosts:" && slices.Contains(f, "resolve") {
			return h.there("/run/systemd/resolve/io.systemd.Resolve")
		}
	}
	return false
}

func (h Host) managerRunsDnsmasq() bool {
	files := []string{"/etc/NetworkManager/NetworkManager.conf"}
	for _, dir := range []string{"/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d"} {
		ents, err := os.ReadDir(h.path(dir))
		if err != nil {
			continue
		}
		for _, e := range ents {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	for _, f := range files {
		for line := range strings.Lines(h.read(f)) {
			if strings.ReplaceAll(strings.TrimSpace(line), " ", "") == "dns=dnsmasq" {
				return true
			}
		}
	}
	return false
}

// globalServers names a file by which systemd-resolved has servers of its own for all
// of the host, "" if it has none. Ours would be one more in their list, of which
// it asks one at a time, as a rule the first, whatever the domain (seen with 252).
// Servers of links, which most hosts have, are a list apart.
func (h Host) globalServers() string {
	files := []string{"/etc/systemd/resolved.conf"}
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		more, _ := filepath.Glob(h.path(dir + "/systemd/resolved.conf.d/*.conf")) // the pattern is sound
		for _, f := range more {
			files = append(files, strings.TrimPrefix(f, strings.TrimSuffix(h.Root, "/")))
		}
	}
	for _, f := range files {
		text := h.read(f)
		if isOurs(text) {
			continue
		}
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(key) == "DNS" && strings.TrimSpace(value) != "" {
				return f
			}
		}
	}
	return ""
}

func (h Host) there(p string) bool {
	_, err := os.Lstat(h.path(p))
	return !errors.Is(err, fs.ErrNotExist)
}
