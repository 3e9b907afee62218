package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// A booted machine is saved, memory and disk, and each machine goes on from there: in
// seconds, where an emulated boot takes a quarter of a minute on a machine that has
// nothing else to do, and minutes on a busy one.

// saved is the directory of the saved machine.
func (i image) saved() string {
	sum := sha256.Sum256([]byte(strings.ReplaceAll(strings.Join(i.hardware(), "\x00"), i.dir, "")))
	return i.file(fmt.Sprintf("saved-%x", sum[:4]))
}

// save makes the saved machine, if there is none.
func (i image) save(ctx context.Context) error {
	dir := i.saved()
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "lab: booting its machine, and saving it (once)")
	aside := dir + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	disk := filepath.Join(aside, "root.qcow2")
	if out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "../host.ext4", disk).CombinedOutput(); err != nil {
		return fmt.Errorf("make its disk: %w\n%s", err, out)
	}
	m, err := i.launch("format=qcow2,file=" + disk)
	if err != nil {
		return err
	}
	defer m.end()
	if err := m.freeze(ctx, filepath.Join(aside, "memory")); err != nil {
		return fmt.Errorf("save the lab's machine: %w", err)
	}
	if err := os.Rename(aside, dir); err != nil {
		return err
	}
	others, err := filepath.Glob(i.file("saved-*"))
	for _, other := range others {
		if other != dir {
			err = errors.Join(err, os.RemoveAll(other))
		}
	}
	return err
}

// freeze waits until the machine has come up, writes its memory into a file and
// ends it.
func (m *machine) freeze(ctx context.Context, file string) error {
	root, err := m.connect(ctx, "root")
	if err != nil {
		return err
	}
	var said bytes.Buffer
	code, err := m.command(ctx, root, "systemctl is-system-running --wait || { systemctl --failed --no-legend; exit 1; } && sync", streams{out: &said, err: &said})
	root.Close()
	if err == nil && code != 0 {
		err = fmt.Errorf("it has not come up: %s\n%s", &said, m.console())
	}
	if err != nil {
		return err
	}
	q, err := m.monitor(ctx)
	if err != nil {
		return err
	}
	defer q.close()
	if _, err := q.do("stop", nil); err != nil {
		return err
	}
	if _, err := q.do("migrate-set-parameters", arguments{"max-bandwidth": 1 << 40}); err != nil {
		return err
	}
	if _, err := q.do("migrate", arguments{"uri": "file:" + file}); err != nil {
		return err
	}
	if err := q.until(ctx, "query-migrate", "completed"); err != nil {
		return err
	}
	if _, err := q.do("quit", nil); err != nil {
		return err
	}
	<-m.ended
	return nil
}

// fresh returns a machine that has come up, with these disks, and a connection of root's.
func (i image) fresh(ctx context.Context, disks []disk) (*machine, *ssh.Client, error) {
	if len(disks) > slots {
		return nil, nil, fmt.Errorf("%d directories, and room for %d", len(disks), slots)
	}
	var m *machine
	var err error
	if nested() {
		m, err = i.launch("format=raw,snapshot=on,file=" + i.file("host.ext4"))
	} else {
		m, err = i.launch("format=qcow2,snapshot=on,file="+filepath.Join(i.saved(), "root.qcow2"), "-incoming", "file:"+filepath.Join(i.saved(), "memory"))
	}
	if err != nil {
		return nil, nil, err
	}
	root, err := m.ready(ctx, disks)
	if err != nil {
		return nil, nil, errors.Join(err, m.end())
	}
	return m, root, nil
}

// ready plugs the disks in, and tells the machine what time it is.
func (m *machine) ready(ctx context.Context, disks []disk) (*ssh.Client, error) {
	q, err := m.monitor(ctx)
	if err != nil {
		return nil, err
	}
	root, err := m.prepare(ctx, q, disks)
	if err != nil || nested() {
		q.close()
		return root, err
	}
	go m.watch(q)
	return root, nil
}

func (m *machine) prepare(ctx context.Context, q *monitor, disks []disk) (*ssh.Client, error) {
	if !nested() { // it was saved as it stood still, and is loaded so
		if err := q.until(ctx, "query-status", "paused"); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, m.console())
		}
		if _, err := q.do("cont", nil); err != nil {
			return nil, err
		}
	}
	script := fmt.Sprintf("set -e\ndate -s @%d >/dev/null\n", time.Now().Unix())
	for n, d := range disks {
		script += fmt.Sprintf("udevadm wait --timeout=120 /dev/disk/by-id/virtio-%s\nmkdir -p /lab/%[1]s\necho '/dev/disk/by-id/virtio-%[1]s /lab/%[1]s ext4 ro 0 0' >>/etc/fstab\n", d.name)
		if _, err := q.do("blockdev-add", arguments{"driver": "file", "filename": d.file, "node-name": d.name, "read-only": true}); err != nil {
			return nil, err
		}
		if _, err := q.do("device_add", arguments{"driver": "virtio-blk-pci", "drive": d.name, "serial": d.name, "bus": fmt.Sprintf("slot%d", n)}); err != nil {
			return nil, err
		}
	}
	root, err := m.connect(ctx, "root")
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	code, err := m.command(ctx, root, script+"mount -a", streams{out: &said, err: &said})
	if err == nil && code != 0 {
		err = fmt.Errorf("prepare the lab's machine: exit code %d: %s", code, &said)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}
