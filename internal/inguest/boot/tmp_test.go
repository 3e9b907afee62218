package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Debian's file, shortened.
const debianTmp = "# comment\nD /tmp 1777 root root -\n#q /var/tmp 1777 root root 30d\nx /tmp/systemd-private-%b-*\nD! /tmp/.X11-unix 1777 root root 10d\n"

func TestKeepTmp(t *testing.T) {
	const kept = "# comment\nd /tmp 1777 root root -\n#q /var/tmp 1777 root root 30d\nx /tmp/systemd-private-%b-*\nD! /tmp/.X11-unix 1777 root root 10d\n"
	for name, c := range map[string]struct {
		files map[string]string
		link  string // tmp.mount in /etc/systemd/system
		rule  string // in /run, "": none
		tmpfs string
	}{
		"Debian 12":        {map[string]string{"usr/lib/tmpfiles.d/tmp.conf": debianTmp}, "", kept, "false"},
		"the user's own":   {map[string]string{"usr/lib/tmpfiles.d/tmp.conf": debianTmp, "etc/tmpfiles.d/tmp.conf": "D /tmp\n"}, "", "", "false"},
		"none":             {map[string]string{}, "", "", "false"},
		"systemd mounts":   {map[string]string{"usr/lib/tmpfiles.d/tmp.conf": debianTmp, "usr/lib/systemd/system/local-fs.target.wants/tmp.mount": ""}, "", "", "true"},
		"the mount masked": {map[string]string{"usr/lib/tmpfiles.d/tmp.conf": debianTmp, "usr/lib/systemd/system/local-fs.target.wants/tmp.mount": ""}, "/dev/null", kept, "false"},
	} {
		root := machine(t, c.files)
		err := os.MkdirAll(filepath.Join(root, "tmp"), 0o755)
		if c.link != "" {
			dir := filepath.Join(root, "etc/systemd/system")
			err = errors.Join(err, os.MkdirAll(dir, 0o755), os.Symlink(c.link, filepath.Join(dir, "tmp.mount")))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, out := run(t, "keep tmp", root); out != "<nil> <nil> "+c.tmpfs+"\n" {
			t.Errorf("%s: %s", name, out)
		}
		got, err := os.ReadFile(filepath.Join(root, "run/tmpfiles.d/tmp.conf"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) || string(got) != c.rule {
			t.Errorf("%s: rule %q, %v", name, got, err)
		}
	}
}
