package resolver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"banger"
)

// A Target is whom a resolver is to ask.
type Target struct {
	Tag    string         // of the installation, 4 hex digits
	Listen netip.AddrPort // where its daemon answers
}

// first begins every file of ours.
const (
	first    = "# Written by banger dns install: names of VMs of the installation "
	ownerEnd = "."
	madeDir  = "# The directory was made for this file."
)

// A File is the one that a resolver is told by.
type File struct {
	Path    string // as the host has it
	Content string
}

// FileOf is the file that has a resolver ask t. Where its directory is missing the
// file says so, for whoever takes it away.
func (h Host) FileOf(k Kind, t Target) File {
	f := File{Path: filepath.Join(dirs[k], "banger.conf")}
	lines := []string{first + t.Tag + ownerEnd}
	if old, err := os.ReadFile(h.path(f.Path)); err == nil && isOurs(string(old)) {
		if strings.Contains(string(old), madeDir+"\n") {
			lines = append(lines, madeDir)
		}
	} else if !h.there(dirs[k]) {
		lines = append(lines, madeDir)
	}
	switch k {
	case Resolved:
		lines = append(lines, "[Resolve]", "DNS="+t.Listen.String(), "Domains=~vm")
	default:
		// An answer from a private network is what stop-dns-rebind takes for an attack.
		lines = append(lines, fmt.Sprintf("server=/vm/%s#%d", t.Listen.Addr(), t.Listen.Port()), "rebind-domain-ok=/vm/")
	}
	f.Content = strings.Join(lines, "\n") + "\n"
	return f
}

func isOurs(content string) bool { return strings.HasPrefix(content, first) }

// A Setup is a file of ours that a resolver has.
type Setup struct {
	Resolver Kind   `json:"resolver"`
	File     string `json:"file"`
	Tag      string `json:"tag"`    // whose names
	Listen   string `json:"listen"` // address and port, where it asks
}

// Setups are the files of ours that the host has.
func (h Host) Setups() (all []Setup) {
	for _, k := range Kinds() {
		if s, ok := h.setup(Kind(k)); ok {
			all = append(all, s)
		}
	}
	return all
}

func (h Host) setup(k Kind) (Setup, bool) {
	s := Setup{Resolver: k, File: filepath.Join(dirs[k], "banger.conf")}
	text := h.read(s.File)
	if !isOurs(text) {
		return s, false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if tag, ok := strings.CutPrefix(line, first); ok {
			s.Tag = strings.TrimSuffix(tag, ownerEnd)
		}
		for _, key := range []string{"DNS=", "server=/vm/"} {
			if at, ok := strings.CutPrefix(line, key); ok {
				s.Listen = strings.ReplaceAll(at, "#", ":")
			}
		}
	}
	return s, true
}

// Check says why f must not be put where it belongs: something else is there, a file
// that sends .vm to another installation, or it would not help.
func (h Host) Check(k Kind, f File, t Target) error {
	if file := h.globalServers(); k == Resolved && file != "" {
		return banger.Errorf(banger.HostUnready, "systemd-resolved has servers for all of the host, by DNS= in %s, and would ask those for .vm", file).
			WithRemedy("give them to a link instead, in its configuration or by resolvectl dns LINK SERVER; or have a dnsmasq asked: --resolver dnsmasq")
	}
	old, err := os.ReadFile(h.path(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, ours := h.setup(k)
	switch {
	case !ours && len(old) > 0:
		return banger.Errorf(banger.Exists, "%s is not banger's", f.Path).WithRemedy("move it away")
	case ours && s.Tag != t.Tag:
		return banger.Errorf(banger.Exists, "%s sends .vm to another installation of banger, %s, at %s", f.Path, s.Tag, s.Listen).
			WithRemedy("take that away first: banger dns uninstall")
	}
	return nil
}

// Same reports whether the host has f just so.
func (h Host) Same(f File) bool { return h.read(f.Path) == f.Content }

// Put writes f, all of it or nothing. It needs root.
func (h Host) Put(f File) error {
	p := h.path(f.Path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	tmp := p + ".new" // resolvers read *.conf; dnsmasq of another directory than Debian's reads all
	err := os.WriteFile(tmp, []byte(f.Content), 0o644)
	if err == nil {
		err = os.Chmod(tmp, 0o644)
	}
	if err == nil {
		err = os.Rename(tmp, p)
	}
	if err != nil {
		_ = os.Remove(tmp) // half of it, perhaps: the disk may be full
	}
	return err
}

// Remove takes a file of ours away, and its directory if that was made for it and
// is empty. It needs root.
func (h Host) Remove(s Setup) error {
	p := h.path(s.File)
	made := h.MadeDir(s)
	if err := os.Remove(p); err != nil {
		return err
	}
	if made {
		_ = os.Remove(filepath.Dir(p)) // others may have files there by now
	}
	return nil
}

// MadeDir reports whether the file's directory was made for it.
func (h Host) MadeDir(s Setup) bool { return strings.Contains(h.read(s.File), madeDir+"\n") }
