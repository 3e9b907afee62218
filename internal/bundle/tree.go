package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"banger"
)

// removed are the tree's files that belong to one machine, or that only the
// building of the tree needed.
var removed = []string{
	"etc/resolv.conf", // mmdebstrap copies the host's
	"etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ecdsa_key.pub",
	"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub",
	"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub",
	"etc/dpkg/dpkg.cfg.d/99mmdebstrap", // --dpkgopt: in a VM dpkg shall sync what it writes
	"var/lib/dbus/machine-id",
	"var/lib/systemd/random-seed",
	"var/log/apt", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
	"var/cache/debconf/templates.dat-old", "var/cache/debconf/config.dat-old",
	"var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old",
	"etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-",
}

// written are the tree's files that banger decides.
var written = map[string]string{
	"etc/machine-id":     "", // empty: a machine's own is filled in at its first boot
	"etc/hostname":       "debian\n",
	"etc/hosts":          "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
	"etc/default/locale": "LANG=C.UTF-8\n",
	// What --aptopt had mmdebstrap write, without the host's proxy.
	"etc/apt/apt.conf.d/99mmdebstrap": "Acquire::Languages \"none\";\n",
	"etc/fstab":                       "# the root file system is mounted before init starts\n",
	// sshd refuses to start without a host key, and one in the image would be
	// every VM's. ed25519 alone: an RSA key takes seconds under emulation.
	"etc/systemd/system/ssh.service.d/host-key.conf": "[Service]\n" +
		"ExecStartPre=\n" +
		"ExecStartPre=/bin/sh -c 'ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key'\n" +
		"ExecStartPre=/usr/sbin/sshd -t\n",
}

// prepareTree makes an image out of the tree of one bootstrap: nothing in it
// is a machine's own, and no unit starts that a VM does not need. It returns
// the name of the operating system. The tree's links may lead anywhere:
// os.Root does not follow them out of it.
func prepareTree(dir string) (osName string, err error) {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open tree: %w", err)
	}
	defer tree.Close()
	if err := checkRootLocked(tree); err != nil {
		return "", err
	}
	for _, name := range removed {
		if err := tree.RemoveAll(name); err != nil {
			return "", fmt.Errorf("remove from tree: %w", err)
		}
	}
	for name, text := range written {
		if err := replace(tree, name, text); err != nil {
			return "", fmt.Errorf("write in tree: %w", err)
		}
	}
	if err := setUnits(tree); err != nil {
		return "", err
	}
	if err := markUpdated(tree); err != nil {
		return "", err
	}
	return prettyName(tree)
}

// replace writes a file of the tree, in the place of what is there: that may
// be a link. Modes are set outright, for the daemon's umask is not the image's.
func replace(tree *os.Root, name, text string) error {
	dir := path.Dir(name)
	if _, err := tree.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(tree.Mkdir(dir, 0o755), tree.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	return errors.Join(tree.RemoveAll(name), tree.WriteFile(name, []byte(text), 0o644), tree.Chmod(name, 0o644))
}

func setUnits(tree *os.Root) error {
	const units = "etc/systemd/system/"
	links := map[string]string{units + "default.target": "/lib/systemd/system/multi-user.target"}
	for _, u := range masked {
		links[units+u] = "/dev/null"
	}
	for name, target := range links {
		if err := errors.Join(tree.RemoveAll(name), tree.Symlink(target, name)); err != nil {
			return fmt.Errorf("set unit %s: %w", path.Base(name), err)
		}
	}
	return nil
}

// markUpdated tells systemd that /etc and /var are as new as /usr, else it
// rebuilds the message catalogue and runs sysusers in every VM's first boot.
func markUpdated(tree *os.Root) error {
	usr, err := tree.Stat("usr")
	if err != nil {
		return err
	}
	at := usr.ModTime().Add(time.Second)
	for _, name := range []string{"etc/.updated", "var/.updated"} {
		if err := errors.Join(replace(tree, name, ""), tree.Chtimes(name, at, at)); err != nil {
			return fmt.Errorf("mark tree as updated: %w", err)
		}
	}
	return nil
}

// checkRootLocked refuses a tree whose root has a password or none at all.
func checkRootLocked(tree *os.Root) error {
	shadow, err := tree.ReadFile("etc/shadow")
	if err != nil {
		return fmt.Errorf("read shadow file of tree: %w", err)
	}
	for line := range strings.Lines(string(shadow)) {
		if f := strings.Split(line, ":"); f[0] == "root" && len(f) > 1 {
			if strings.HasPrefix(f[1], "*") || strings.HasPrefix(f[1], "!") {
				return nil
			}
		}
	}
	return banger.Errorf(banger.Internal, "the image's root is not locked")
}

// prettyName returns PRETTY_NAME of os-release(5).
func prettyName(tree *os.Root) (string, error) {
	text, err := tree.ReadFile("usr/lib/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`), nil
		}
	}
	return "", err
}
