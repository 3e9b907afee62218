package resolver_test

import (
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"banger"
	"banger/internal/resolver"
)

// newHost makes a host of these files; a name that ends in / is a directory.
func newHost(t *testing.T, files map[string]string) resolver.Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		dir := filepath.Dir(p)
		if strings.HasSuffix(name, "/") {
			dir = p
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != p {
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return resolver.Host{Root: root}
}

// tree prints all that a host has.
func tree(t *testing.T, h resolver.Host) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(h.Root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(p, h.Root) + "/"
		if !d.IsDir() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			line = strings.TrimSuffix(line, "/") + " " + st.Mode().String() + "\n" + string(b)
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return strings.Join(all, "\n")
}

func TestDetect(t *testing.T) {
	const stub, dnsmasq, router = "nameserver 127.0.0.53\noptions edns0\n", "# x\nnameserver 127.0.0.1\n", "nameserver 192.168.1.1\nnameserver fe80::1%eth0\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  resolver.Kind
	}{
		"resolved's stub":                 {map[string]string{"etc/resolv.conf": stub}, resolver.Resolved},
		"resolved by the C library":       {map[string]string{"etc/resolv.conf": router, "etc/nsswitch.conf": "hosts:\tfiles resolve [!UNAVAIL=return] dns\n", "run/systemd/resolve/io.systemd.Resolve": ""}, resolver.Resolved},
		"the C library would, none runs":  {map[string]string{"etc/resolv.conf": router, "etc/nsswitch.conf": "hosts: files resolve dns\n"}, ""},
		"a comment":                       {map[string]string{"etc/resolv.conf": router, "etc/nsswitch.conf": "hosts: files dns # resolve\n", "run/systemd/resolve/io.systemd.Resolve": ""}, ""},
		"NetworkManager's dnsmasq":        {map[string]string{"etc/resolv.conf": dnsmasq, "etc/NetworkManager/conf.d/dns.conf": "[main]\ndns = dnsmasq\n", "etc/dnsmasq.d/": ""}, resolver.NetworkManager},
		"NetworkManager without":          {map[string]string{"etc/resolv.conf": dnsmasq, "etc/NetworkManager/NetworkManager.conf": "[main]\n#dns=dnsmasq\ndns=default\n", "etc/dnsmasq.d/": ""}, resolver.Dnsmasq},
		"dnsmasq":                         {map[string]string{"etc/resolv.conf": dnsmasq, "etc/dnsmasq.conf": ""}, resolver.Dnsmasq},
		"something else on the loopback":  {map[string]string{"etc/resolv.conf": dnsmasq}, ""},
		"dnsmasq that nobody asks":        {map[string]string{"etc/resolv.conf": router, "etc/dnsmasq.d/": ""}, ""},
		"nobody at all":                   {nil, ""},
		"a resolv.conf that is too large": {map[string]string{"etc/resolv.conf": strings.Repeat("#\n", 1<<20) + stub}, ""},
	} {
		got, err := newHost(t, c.files).Detect()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		if e := banger.AsError(err); e != nil && (e.Code != banger.HostUnready || e.Remedy == "") {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

var target = resolver.Target{Tag: "ab12", Listen: netip.MustParseAddrPort("127.0.0.1:42069")}

// What was put is found, is not put twice, and is gone without a trace, by the
// calls that root makes as by the lines that others are shown.
func TestThereAndBack(t *testing.T) {
	for _, dirs := range []map[string]string{
		{"etc/systemd/": "", "etc/NetworkManager/": ""},
		{"etc/systemd/resolved.conf.d/": "", "etc/NetworkManager/dnsmasq.d/other.conf": "x", "etc/dnsmasq.d/": ""},
	} {
		for _, name := range resolver.Kinds() {
			for _, by := range []string{"root", "lines"} {
				k, h := resolver.Kind(name), newHost(t, dirs)
				before := tree(t, h)
				f := h.FileOf(k, target)
				if err := h.Check(k, f, target); err != nil || h.Same(f) {
					t.Fatalf("%s: %v", name, err)
				}
				if by == "root" {
					if err := h.Put(f); err != nil {
						t.Fatal(err)
					}
				} else {
					run(t, h, resolver.PutLines(k, f))
				}
				if !h.Same(h.FileOf(k, target)) {
					t.Errorf("%s by %s: it is not recognised:\n%s", name, by, tree(t, h))
				}
				if err := h.Check(k, f, target); err != nil {
					t.Errorf("%s: once more: %v", name, err)
				}
				all := h.Setups()
				want := resolver.Setup{Resolver: k, File: f.Path, Tag: "ab12", Listen: "127.0.0.1:42069"}
				if !slices.Equal(all, []resolver.Setup{want}) {
					t.Fatalf("%s by %s: found %+v", name, by, all)
				}
				if by == "root" {
					if err := h.Remove(all[0]); err != nil {
						t.Fatal(err)
					}
				} else {
					run(t, h, h.RemoveLines(all[0]))
				}
				if after := tree(t, h); after != before {
					t.Errorf("%s by %s: before\n%s\nafter\n%s", name, by, before, after)
				}
			}
		}
	}
}

// run has a shell run lines on a pretend host: sudo is nothing, programs that
// reload are nothing, and paths of /etc lie below its root.
func run(t *testing.T, h resolver.Host, lines []string) {
	t.Helper()
	script := "set -e\nsudo() { case $1 in systemctl|nmcli) ;; *) \"$@\" ;; esac; }\n" +
		strings.ReplaceAll(strings.Join(lines, "\n"), " /etc/", " "+h.Root+"/etc/")
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
}

func TestContent(t *testing.T) {
	h := newHost(t, map[string]string{"etc/systemd/resolved.conf.d/": "", "etc/dnsmasq.d/": ""})
	const head = "# Written by banger dns install: names of VMs of the installation ab12.\n"
	for k, want := range map[resolver.Kind]string{
		resolver.Resolved:       head + "[Resolve]\nDNS=127.0.0.1:42069\nDomains=~vm\n",
		resolver.Dnsmasq:        head + "server=/vm/127.0.0.1#42069\nrebind-domain-ok=/vm/\n",
		resolver.NetworkManager: head + "# The directory was made for this file.\nserver=/vm/127.0.0.1#42069\nrebind-domain-ok=/vm/\n",
	} {
		if got := h.FileOf(k, target).Content; got != want {
			t.Errorf("%s:\n%s", k, got)
		}
	}
}

// Servers for all of the host would be asked for .vm, too; those of links are not.
func TestGlobalServers(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		ok    bool
	}{
		"none":           {map[string]string{"etc/systemd/resolved.conf": "[Resolve]\n#DNS=1.1.1.1\nDNS=\n"}, true},
		"its file":       {map[string]string{"etc/systemd/resolved.conf": "[Resolve]\n DNS = 1.1.1.1 8.8.8.8\n"}, false},
		"another's file": {map[string]string{"run/systemd/resolved.conf.d/x.conf": "[Resolve]\nDNS=10.0.0.1\n"}, false},
		"no drop-in":     {map[string]string{"run/systemd/resolved.conf.d/x.conf.bak": "[Resolve]\nDNS=10.0.0.1\n"}, true},
	} {
		h := newHost(t, c.files)
		f := h.FileOf(resolver.Resolved, target)
		err := h.Check(resolver.Resolved, f, target)
		if e := banger.AsError(err); (e == nil) != c.ok || e != nil && (e.Code != banger.HostUnready || e.Remedy == "") {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Check(resolver.Dnsmasq, h.FileOf(resolver.Dnsmasq, target), target); err != nil {
			t.Errorf("%s, with dnsmasq: %v", name, err)
		}
		if !c.ok {
			continue
		}
		if err := h.Put(f); err != nil {
			t.Fatal(err)
		}
		if err := h.Check(resolver.Resolved, f, target); err != nil {
			t.Errorf("%s, with our own: %v", name, err)
		}
	}
}

// What is another's stays: a file that banger did not write, and one that another
// installation has there.
func TestOthers(t *testing.T) {
	const file = "etc/dnsmasq.d/banger.conf"
	h := newHost(t, map[string]string{file: "server=/vm/10.0.0.1\n"})
	err := h.Check(resolver.Dnsmasq, h.FileOf(resolver.Dnsmasq, target), target)
	if e := banger.AsError(err); e == nil || e.Code != banger.Exists || e.Remedy == "" || len(h.Setups()) != 0 {
		t.Errorf("not banger's: %v, %v", err, h.Setups())
	}
	h = newHost(t, map[string]string{"etc/dnsmasq.d/": ""})
	if err := h.Put(h.FileOf(resolver.Dnsmasq, target)); err != nil {
		t.Fatal(err)
	}
	other := resolver.Target{Tag: "ffff", Listen: netip.MustParseAddrPort("127.0.0.1:42070")}
	err = h.Check(resolver.Dnsmasq, h.FileOf(resolver.Dnsmasq, other), other)
	if e := banger.AsError(err); e == nil || e.Code != banger.Exists || !strings.Contains(e.Message, "ab12") || e.Remedy == "" {
		t.Errorf("another installation's: %v", err)
	}
	moved := resolver.Target{Tag: "ab12", Listen: netip.MustParseAddrPort("127.0.0.1:43000")}
	f := h.FileOf(resolver.Dnsmasq, moved)
	if err := h.Check(resolver.Dnsmasq, f, moved); err != nil || h.Same(f) {
		t.Errorf("the same one on another port: %v", err)
	}
}
