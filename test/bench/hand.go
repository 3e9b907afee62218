package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"banger/test/sandbox"
)

// hand makes VMs without banger, by the script byhand.sh.
type hand struct {
	dir   string // where their directories are made
	model *model
	key   userKey
	stock stockImage // not before boots ask for it
}

// A handVM is one VM made by hand.
type handVM struct {
	dir, name  string
	port, sshd int // on the host; sshd 0: none
	up         int // on the host, leads to a port that nobody serves
	base, size string
	work       string   // size of the work disk; "": none
	parts      []string // of the initrd
	argv       []string // QEMU's
	hostKey    string   // public
	prepare    func() error

	cmd   *exec.Cmd
	stdin io.Closer
}

// likeBanger is a VM of the image, kernel, initramfs and QEMU command line that
// banger uses. Its port leads to the guest program.
func (h *hand) likeBanger(name string) *handVM {
	m := h.model
	v := &handVM{dir: filepath.Join(h.dir, "hand", name), name: name, base: m.base, size: strconv.FormatInt(m.diskSize, 10), work: strconv.FormatInt(m.workSize, 10)}
	own := filepath.Join(v.dir, "own.cpio")
	v.parts = []string{own, filepath.Join(sandbox.Runtime(), "initramfs.img")}
	v.prepare = func() error {
		ports, err := freePorts()
		if err != nil {
			return err
		}
		v.port, v.sshd, v.up = ports[0], ports[1], ports[2]
		v.argv = m.like(v.dir, v.port, v.sshd, v.up)
		v.hostKey, err = writeOwn(own, h.key.public, name, m)
		return err
	}
	return v
}

// likeStock is a VM of the stock image under QEMU's same flags.
func (h *hand) likeStock(name string, cpus int) *handVM {
	v := &handVM{dir: filepath.Join(h.dir, "hand", name), name: name, base: h.stock.disk, size: strconv.FormatInt(h.model.diskSize, 10),
		parts: []string{h.stock.initrd}, hostKey: h.stock.hostKey}
	v.prepare = func() error {
		ports, err := freePorts()
		if err != nil {
			return err
		}
		v.port, v.up = ports[0], ports[1]
		v.argv = h.model.likeStock(v.dir, h.stock.kernel, v.port, v.up, cpus)
		return nil
	}
	return v
}

// boot returns how long it takes until ssh(1) has run `true` in a new VM, and
// ends it.
func (h *hand) boot(ctx context.Context, v *handVM) (float64, error) {
	if err := v.lay(h.key.file); err != nil {
		return 0, err
	}
	s, err := timed(func() error { return v.run(ctx) })
	return s, errors.Join(err, v.end())
}

// lay makes all that is not measured: what banger, too, has before a VM.
func (v *handVM) lay(key string) error {
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	if err := v.prepare(); err != nil {
		return err
	}
	if err := os.Symlink(key, filepath.Join(v.dir, "key")); err != nil {
		return err
	}
	return v.trust(v.port, v.hostKey)
}

func (v *handVM) trust(port int, hostKey string) error {
	f, err := os.OpenFile(filepath.Join(v.dir, "known_hosts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "[127.0.0.1]:%d %s\n", port, strings.TrimSpace(hostKey))
	return errors.Join(err, f.Close())
}

// run starts the VM and returns when the script says that it is ready.
func (v *handVM) run(ctx context.Context) error {
	args := append([]string{v.dir, v.base, v.size, v.work, strconv.Itoa(v.port), strconv.Itoa(v.up)}, v.parts...)
	args = append(append(args, "--"), v.argv...)
	v.cmd = exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "test", "bench", "byhand.sh"), args...)
	// The script ends QEMU when its stdin ends, also by the death of this process.
	stdin, err := v.cmd.StdinPipe()
	if err != nil {
		return err
	}
	v.stdin = stdin
	v.cmd.Cancel = stdin.Close
	stdout, err := v.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	v.cmd.Stderr = &stderr
	if err := v.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("boot %s by hand: %w\n%s", v.name, err, &stderr)
	}
	return nil
}

// end ends the VM and removes its directory. It may be called again.
func (v *handVM) end() error {
	if v.cmd == nil {
		return nil
	}
	v.stdin.Close()
	err := v.cmd.Wait()
	v.cmd = nil
	return errors.Join(err, os.RemoveAll(v.dir))
}

// ssh runs a shell command through a port of the VM's.
func (v *handVM) ssh(ctx context.Context, port int, command string) error {
	_, err := v.sshOutput(ctx, port, command)
	return err
}

func (v *handVM) sshOutput(ctx context.Context, port int, command string) (string, error) {
	args := append([]string{"-n"}, v.sshOptions(port)...)
	out, err := exec.CommandContext(ctx, "ssh", append(args, "root@127.0.0.1", command)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ssh to %s: %w: %s", v.name, err, out)
	}
	return string(out), nil
}

// sshOptions are those that ssh(1) and scp(1) share.
func (v *handVM) sshOptions(port int) []string {
	return []string{"-F", "none", "-i", filepath.Join(v.dir, "key"), "-o", "Port=" + strconv.Itoa(port),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(v.dir, "known_hosts")}
}

// openSSHD lets the key in at the image's own sshd and waits until systemd has
// started everything.
func (v *handVM) openSSHD(ctx context.Context, pubKey string) error {
	booted := "install -d -m 700 ~/.ssh && echo '" + pubKey + "' >~/.ssh/authorized_keys && " +
		"until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.1; done; cat /etc/ssh/ssh_host_ed25519_key.pub"
	hostKey, err := v.sshOutput(ctx, v.port, booted)
	if err != nil {
		return err
	}
	if err := v.trust(v.sshd, hostKey); err != nil {
		return err
	}
	return v.ssh(ctx, v.sshd, "true")
}

// freePorts returns some that nobody listens on.
func freePorts() (ports [3]int, err error) {
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
