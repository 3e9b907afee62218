package boot_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
)

func applyTo(t *testing.T, root string, id guestapi.Identity) string {
	t.Helper()
	t.Setenv("IDENTITY", string(encode(t, id)))
	_, out := run(t, "apply", root)
	return out
}

// debian is what an image has in the files that an identity changes.
func debian() map[string]string {
	return map[string]string{
		"etc/hostname":    "builder\n",
		"etc/machine-id":  "uninitialized\n",
		"etc/hosts":       "127.0.0.1\tlocalhost\n10.1.1.1\tdb\n",
		"etc/resolv.conf": "nameserver 10.9.9.9\n",
	}
}

func TestApplyIdentity(t *testing.T) {
	root, id := machine(t, debian()), identity()
	if out := applyTo(t, root, id); out != "web <nil>\n" {
		t.Fatal(out)
	}
	hosts := "127.0.0.1\tlocalhost\n10.1.1.1\tdb\n172.30.0.3\tweb\t# banger\n"
	for name, want := range map[string]string{
		"etc/hostname": "web\n", "etc/machine-id": id.MachineID + "\n", "etc/hosts": hosts, "etc/resolv.conf": "nameserver 172.30.0.2\n",
	} {
		if got := read(t, root, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	network := read(t, root, "run/systemd/network/00-banger.network")
	for _, want := range []string{"Name=eth0", "Address=172.30.0.3/32", "KeepConfiguration=static", "DHCP=no", "Gateway=172.30.0.1", "GatewayOnLink=yes"} {
		if !strings.Contains(network, want+"\n") {
			t.Errorf("%q lacks %s", network, want)
		}
	}
	if rule := read(t, root, "run/NetworkManager/conf.d/00-banger.conf"); !strings.Contains(rule, "unmanaged-devices=interface-name:eth0") {
		t.Errorf("NetworkManager: %q", rule)
	}
}

// What the user changed stays until the VM is another.
func TestApplyIdentityAgain(t *testing.T) {
	root, id := machine(t, debian()), identity()
	applyTo(t, root, id)
	for name, text := range map[string]string{"etc/hostname": "mine\n", "etc/resolv.conf": "nameserver 1.1.1.1\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	id.Launch = "8899aabbccddeeff"
	if out := applyTo(t, root, id); out != "mine <nil>\n" {
		t.Error(out)
	}
	if got := read(t, root, "etc/resolv.conf"); got != "nameserver 1.1.1.1\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	id.VM, id.Hostname = "0e0e0e0e", "copy" // a copy of its disk
	if out := applyTo(t, root, id); out != "copy <nil>\n" {
		t.Error(out)
	}
	if got := read(t, root, "etc/hosts"); strings.Contains(got, "web") || strings.Count(got, "copy") != 1 || !strings.Contains(got, "db") {
		t.Errorf("hosts: %q", got)
	}
}

func TestApplyIdentityToNothing(t *testing.T) {
	root := machine(t, nil)
	if out := applyTo(t, root, identity()); out != "web <nil>\n" {
		t.Error(out)
	}
	if got := read(t, root, "etc/hosts"); !strings.Contains(got, "127.0.0.1\tlocalhost\n") {
		t.Errorf("hosts: %q", got)
	}
}

func TestApplyIdentityLinks(t *testing.T) {
	root := machine(t, debian())
	os.Remove(filepath.Join(root, "etc/resolv.conf"))
	if err := os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(root, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	if out := applyTo(t, root, identity()); out != "web <nil>\n" {
		t.Error(out)
	}
	if got := read(t, root, "run/systemd/resolve/stub-resolv.conf"); got != "nameserver 172.30.0.2\n" {
		t.Errorf("%q", got)
	}
}

// A root that cannot be written is shown the identity by mounts.
func TestApplyIdentityReadOnly(t *testing.T) {
	files := debian()
	files["etc/network/interfaces"] = "auto eth0\niface eth0 inet dhcp\n"
	root := machine(t, files)
	id := identity()
	t.Setenv("IDENTITY", string(encode(t, id)))
	_, out := run(t, "apply read-only", root)
	want := "web <nil>\nweb\n" + id.MachineID + "\n127.0.0.1\tlocalhost\n10.1.1.1\tdb\n172.30.0.3\tweb\t# banger\nnameserver 172.30.0.2\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	for name, text := range files {
		if got := read(t, root, name); got != text {
			t.Errorf("%s was written: %q", name, got)
		}
	}
}

// The image's own SSH server has the VM's host key; an image without one gets
// no directory for it.
func TestApplyIdentityHostKey(t *testing.T) {
	files := debian()
	files["etc/ssh/ssh_host_ed25519_key"] = "everybody's"
	root, id := machine(t, files), identity()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	id.HostKey = string(pem.EncodeToMemory(block))
	if out := applyTo(t, root, id); out != "web <nil>\n" {
		t.Fatal(out)
	}
	if got := read(t, root, "etc/ssh/ssh_host_ed25519_key"); got != id.HostKey {
		t.Errorf("host key: %q", got)
	}
	if st, err := os.Stat(filepath.Join(root, "etc/ssh/ssh_host_ed25519_key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v, %v", st.Mode(), err)
	}
	if got := read(t, root, "etc/ssh/ssh_host_ed25519_key.pub"); !strings.HasPrefix(got, "ssh-ed25519 ") {
		t.Errorf("public key: %q", got)
	}
	dropIn := read(t, root, "etc/ssh/sshd_config.d/10-banger.conf")
	for _, want := range []string{"PermitRootLogin prohibit-password\n", "PubkeyAuthentication yes\n"} {
		if !strings.Contains(dropIn, want) {
			t.Errorf("its drop-in %q lacks %q", dropIn, want)
		}
	}
	if err := os.Remove(filepath.Join(root, "etc/ssh/sshd_config.d/10-banger.conf")); err != nil {
		t.Fatal(err)
	}
	applyTo(t, root, id) // the next boot
	if _, err := os.Stat(filepath.Join(root, "etc/ssh/sshd_config.d/10-banger.conf")); err == nil {
		t.Error("the user took the drop-in away, and it came back")
	}
	bare := machine(t, debian())
	applyTo(t, bare, id)
	if _, err := os.Stat(filepath.Join(bare, "etc/ssh")); err == nil {
		t.Error("an image without sshd has got /etc/ssh")
	}
}
