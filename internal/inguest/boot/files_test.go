package boot_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/inguest/boot"
)

func TestHostsFile(t *testing.T) {
	const own = "172.30.0.3\tweb\t# banger\n"
	for name, c := range map[string]struct{ before, want string }{
		"nothing":        {"", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + own},
		"no end of line": {"127.0.0.1 localhost", "127.0.0.1 localhost\n" + own},
		"the user's":     {"127.0.0.1 localhost\n10.0.0.1 db # mine\n", "127.0.0.1 localhost\n10.0.0.1 db # mine\n" + own},
		"an earlier one": {"127.0.0.1 localhost\n172.30.0.9\told\t# banger\n127.0.1.1 old\n", "127.0.0.1 localhost\n" + own},
		"another name":   {"127.0.0.1 localhost\n127.0.1.1 other\n", "127.0.0.1 localhost\n127.0.1.1 other\n" + own},
	} {
		got := boot.HostsFile(c.before, "old", "web", "172.30.0.3")
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if again := boot.HostsFile(got, "web", "web", "172.30.0.3"); again != got {
			t.Errorf("%s: a second time %q", name, again)
		}
	}
}

func FuzzHostsFile(f *testing.F) {
	f.Add("127.0.0.1 localhost\n127.0.1.1 old\r\n# banger")
	f.Fuzz(func(t *testing.T, text string) {
		got := boot.HostsFile(text, "old", "web", "172.30.0.3")
		if !strings.HasSuffix(got, "172.30.0.3\tweb\t# banger\n") {
			t.Errorf("%q", got)
		}
	})
}

func TestManagersFiles(t *testing.T) {
	const networkd = `[Match]
Name=eth0

[Network]
Address=172.30.0.3/32
KeepConfiguration=static
DHCP=no
LinkLocalAddressing=no
IPv6AcceptRA=no
DNS=172.30.0.2
DNS=fd00::1

[Route]
Gateway=172.30.0.1
GatewayOnLink=yes
`
	id := identity()
	id.Resolvers = append(id.Resolvers, netip.MustParseAddr("fd00::1"))
	if got := boot.NetworkdFile(id); got != networkd {
		t.Errorf("networkd: %s", got)
	}
	if got := boot.ResolvedFile(id); got != "[Resolve]\nDNS=172.30.0.2 fd00::1\n" {
		t.Errorf("resolved: %s", got)
	}
	if got := boot.ResolvFile([]string{"172.30.0.2", "fd00::1"}); got != "nameserver 172.30.0.2\nnameserver fd00::1\n" {
		t.Errorf("resolv.conf: %s", got)
	}
}

func TestPutFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "etc", "hostname"), filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content string }{{file, "one\n"}, {file, "two\n"}, {link, "three\n"}} {
		if err := boot.PutFile(c.name, c.content, 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != c.content {
			t.Errorf("%q, %v, want %q", got, err, c.content)
		}
	}
	if st, err := os.Lstat(link); err != nil || st.Mode().Type() != os.ModeSymlink {
		t.Errorf("the symlink was replaced: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRunTarget(t *testing.T) {
	for target, want := range map[string]string{
		"/run/resolv.conf":                         "/run/resolv.conf",
		"/var/run/resolv.conf":                     "/run/resolv.conf",
		"/run/../etc/passwd":                       "",
		"/usr/lib/resolv.conf":                     "",
		"/run/systemd/resolve/../stub-resolv.conf": "/run/systemd/stub-resolv.conf",
	} {
		link := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, ok := boot.RunTarget(link); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v, want %q", target, got, ok, want)
		}
	}
}
