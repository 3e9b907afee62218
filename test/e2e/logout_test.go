package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"banger"
	"banger/test/sandbox"
	"github.com/godbus/dbus/v5"
)

// loginProgram is this binary's name as beLogin.
const loginProgram = "banger-test-login"

// beLogin is a login of the user uid, as pam_systemd tells logind of one: it runs
// a script in it, and stays until logind ends it.
func beLogin(uid, script string) error {
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return err
	}
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer bus.Close()
	var s struct {
		ID            string
		Object        dbus.ObjectPath
		Runtime, Seat string
		Open          dbus.UnixFD // its end is the session's
		UID, VT       uint32
		Existing      bool
	}
	type property struct {
		Name  string
		Value dbus.Variant
	}
	call := bus.Object("org.freedesktop.login1", "/org/freedesktop/login1").Call("org.freedesktop.login1.Manager.CreateSession", 0,
		uint32(n), uint32(os.Getpid()), "login", "tty", "user", "", "", uint32(0), "", "", false, "", "", []property{})
	if err := call.Store(&s.ID, &s.Object, &s.Runtime, &s.Open, &s.UID, &s.Seat, &s.VT, &s.Existing); err != nil {
		return err
	}
	cmd := exec.Command("sh", script)
	cmd.Env, cmd.Dir = append(os.Environ(), "XDG_RUNTIME_DIR="+s.Runtime, "SESSION="+s.ID), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(n), Gid: uint32(n)}}
	if err := cmd.Start(); err != nil {
		return err
	}
	select {}
}

// put copies files of the host into a directory of a VM's.
func (b box) put(vm, to string, files ...string) {
	b.t.Helper()
	args := []string{"c", "--mtime=2020-01-01", "--owner=root", "--group=root"}
	for _, f := range files {
		args = append(args, "-C", filepath.Dir(f), filepath.Base(f))
	}
	tar := exec.Command("tar", args...)
	cmd := b.Command(b.t.Context(), "exec", vm, "--", "tar", "x", "-m", "-C", to)
	var err error
	cmd.Stdin, err = tar.StdoutPipe()
	must(b.t, err)
	must(b.t, tar.Start())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	must(b.t, tar.Wait())
}

// A workstation is a VM in the place of a user's computer: a real systemd, a
// real sudo, and banger as it is installed, for a user dev whose password is
// "secret". Where a VMM would be is the crash matrix's stand-in, by a script.
func workstation(t *testing.T, vm string) box {
	t.Helper()
	b := fresh(t)
	b.boot(vm, "--memory", "512MiB", "--cpu", "2")
	b.booted(vm)
	dir := t.TempDir()
	tiny(t, filepath.Join(dir, "bundle"))
	must(t, os.Mkdir(filepath.Join(dir, "standin"), 0o755))
	build := exec.CommandContext(t.Context(), filepath.Join(sandbox.Root(), "scripts", "go"), "test", "-c", "-o", filepath.Join(dir, "standin", "qemu-system-x86_64"), "./test/matrix")
	build.Dir, build.Env = sandbox.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in: %v\n%s", err, out)
	}
	self, err := os.Executable()
	must(t, err)
	command(t, "cp", self, filepath.Join(dir, loginProgram))
	// A disk that nobody reads: its header is all that banger looks at.
	command(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/none", "-F", "raw", filepath.Join(dir, "disk.qcow2"), "64M")
	must(t, os.WriteFile(filepath.Join(dir, "qemu-img"), []byte("#!/bin/sh\n[ \"$1\" != create ] || cp /opt/disk.qcow2 \"$9\"\n"), 0o755))
	// Its guest is not where a routed VM's would be: it ends where it gets a tap.
	must(t, os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(`#!/bin/sh
case "$*" in *tap,id=net*) echo "stand-in: no tap here" >&2; exit 1 ;; esac
exec /opt/standin/qemu-system-x86_64 "$@"
`), 0o755))
	b.in(vm, "mkdir -p /usr/local/lib/banger")
	b.put(vm, "/usr/local/bin", filepath.Join(b.Bin, "banger"), filepath.Join(b.Bin, "bangerd"), filepath.Join(b.Bin, "banger-guest"),
		filepath.Join(dir, "qemu-system-x86_64"), filepath.Join(dir, "qemu-img"), filepath.Join(dir, loginProgram))
	b.put(vm, "/usr/local/lib/banger", filepath.Join(b.Bin, "banger-root"))
	b.put(vm, "/opt", filepath.Join(dir, "bundle"), filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "standin"))
	b.in(vm, "chmod 755 /opt/bundle /opt/standin /usr/local/bin/* /usr/local/lib/banger /usr/local/lib/banger/*"+prepareUser+`
echo dev:secret | chpasswd
usermod -aG sudo dev
mkdir -p /var/lib/systemd/linger /run/systemd/logind.conf.d
touch /var/lib/systemd/linger/dev
printf '[Login]\nKillUserProcesses=yes\n' >/run/systemd/logind.conf.d/kill.conf
systemctl restart systemd-logind
chmod 666 /dev/net/tun # there is no udev, which does that`)
	return b
}

// tiny makes a bundle with the default initramfs, and next to nothing else.
func tiny(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	text, err := os.ReadFile(filepath.Join(sandbox.Runtime(), banger.BundleManifest))
	must(t, err)
	var m banger.Bundle
	must(t, json.Unmarshal(text, &m))
	for i := range m.Artifacts {
		a := &m.Artifacts[i]
		file := filepath.Join(dir, a.File)
		switch a.Kind {
		case banger.KindModules, banger.KindImage:
			command(t, "mke2fs", "-q", "-t", "ext4", file, "1M")
		case banger.KindInitramfs:
			command(t, "cp", filepath.Join(sandbox.Runtime(), a.File), file)
		default:
			must(t, os.WriteFile(file, []byte("no kernel\n"), 0o644))
		}
		a.Size, a.SHA256 = digest(t, file)
	}
	text, err = json.Marshal(m)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, banger.BundleManifest), text, 0o644))
}

// devEnv is what banger is told in a workstation.
const devEnv = "export XDG_RUNTIME_DIR=/run/user/1000 BANGER_RUNTIME_DIR=/opt/bundle BANGER_NETWORK_USER=qemu HOME=/home/dev\n"

// dev runs a script as the user dev of a workstation, without a terminal.
func (b box) dev(vm, script string) result {
	b.t.Helper()
	return b.run("exec", "-n", vm, "-u", "dev", "--", "sh", "-c", devEnv+script)
}

// wired is a VM that needs banger-root; its start fails, since the stand-in has
// no tap, but not for want of it.
const wired = "banger vm create --name wired --memory 128MiB --disk 64MiB --network routed"

// A real sudo, and a real logind.
func TestWorkstation(t *testing.T) {
	b := workstation(t, "station")
	b.asksSudo("station")
	b.logsOut("station")
}

// asksSudo: without a terminal sudo asks nothing, and says no at once; what banger
// then tells the user to put into sudoers works; the journal has it.
func (b box) asksSudo(vm string) {
	t := b.t
	t.Helper()
	r := b.dev(vm, "timeout 60 "+wired)
	if r.code != 5 || !strings.Contains(r.err, "a password is required") || !strings.Contains(r.err, "run in a terminal: sudo /usr/local/lib/banger/banger-root") {
		t.Fatalf("without a terminal: %+v", r)
	}
	_, line, ok := strings.Cut(r.err, "by visudo: ")
	line, _, _ = strings.Cut(line, "\n")
	if !ok || !strings.HasPrefix(line, "dev ALL=(root) NOPASSWD: ") {
		t.Fatalf("no sudoers line: %s", r.err)
	}
	if r := b.input(line+"\n", "exec", vm, "--", "sh", "-c", "umask 337; cat >/etc/sudoers.d/banger && visudo -c"); r.code != 0 || !strings.Contains(r.out, "/etc/sudoers.d/banger: parsed OK") {
		t.Errorf("visudo on %q: %+v", line, r)
	}
	if r := b.dev(vm, "timeout 60 "+wired); !strings.Contains(r.err, "no tap here") {
		t.Errorf("with that line in sudoers: %+v", r)
	}
	if r := b.dev(vm, "sudo -n /usr/local/bin/banger version"); r.code == 0 {
		t.Errorf("the line allows more than banger-root: %+v", r)
	}
	if got := b.in(vm, "pgrep -x banger-root | wc -l; stat -c '%u %a' /run/banger-root /run/banger-root/1000 /run/banger-root/1000/socket"); got != "1\n0 711\n0 711\n1000 600" {
		t.Errorf("banger-root: %s", got)
	}
	journal := b.in(vm, "journalctl --no-pager -t banger-root -o cat")
	for _, want := range []string{"msg=started uid=1000", "op=network.probe", "op=network.set tag="} {
		if !strings.Contains(journal, want) {
			t.Errorf("the journal lacks %q:\n%s", want, journal)
		}
	}
	if strings.Contains(journal, "no scope of its own") {
		t.Errorf("the journal says:\n%s", journal)
	}
	// A copy that its user can change is in no sudoers line, and is not started.
	b.in(vm, "kill $(pgrep -x banger-root); timeout 60 sh -c 'while pgrep -x banger-root; do sleep 0.2; done'; chown dev /usr/local/lib/banger")
	if r := b.dev(vm, wired); r.code != 5 || !strings.Contains(r.err, "root-owned") {
		t.Errorf("with a directory that is not root's: %+v", r)
	}
	b.in(vm, "rm /etc/sudoers.d/banger; chown root /usr/local/lib/banger")
	b.dev(vm, "banger daemon stop")
}

// logsOut: what is started in a session outlives it. The daemon, a VMM and
// banger-root are in scopes of their own, and logind ends all the rest.
func (b box) logsOut(vm string) {
	t := b.t
	t.Helper()
	must(t, os.WriteFile(filepath.Join(b.Dir, "session.sh"), []byte(devEnv+`
banger vm create --name web --memory 128MiB --disk 64MiB --network user
(until grep -qs 'password for dev' /tmp/tty; do sleep 0.2; done; echo secret) | script -qefc '`+wired+`' /tmp/tty
sleep infinity &
echo $SESSION $! >/tmp/session.new
mv /tmp/session.new /tmp/session
`), 0o644))
	b.put(vm, "/opt", filepath.Join(b.Dir, "session.sh"))
	in := func(script string) string { return strings.TrimSpace(b.in(vm, script)) }
	in("setsid " + loginProgram + " 1000 /opt/session.sh >/tmp/login.log 2>&1 </dev/null & " +
		"timeout 120 sh -c 'until [ -e /tmp/session ]; do sleep 0.2; done' || { cat /tmp/login.log /tmp/tty; exit 1; }")
	var session, stray string
	if _, err := fmt.Sscan(in("cat /tmp/session"), &session, &stray); err != nil {
		t.Fatal(err)
	}
	// On a terminal sudo asked, after one line that said what for.
	tty := in("cat /tmp/tty")
	said, _, asked := strings.Cut(tty, "[sudo] password for dev:")
	said = strings.TrimSpace(said)
	said = said[strings.LastIndexByte(said, '\n')+1:]
	if !asked || !strings.HasSuffix(said, "banger-root does not run: sudo /usr/local/lib/banger/banger-root") {
		t.Errorf("before sudo asks the terminal says %q:\n%s", said, tty)
	}
	if !strings.Contains(tty, "stand-in: no tap here") {
		t.Errorf("with banger-root the start comes to the VMM, and then it says:\n%s", tty)
	}

	cgroup := func(pid string) string { return in("sed -n s/^0:://p /proc/" + pid + "/cgroup 2>&1 || true") }
	pids := map[string]string{
		"bangerd":     strings.TrimSpace(b.dev(vm, "banger daemon status -q").out),
		"the VMM":     in("pgrep -f '^[^ ]*qemu-system-x86_64 '"),
		"banger-root": in("pgrep -x banger-root"),
	}
	for name, scope := range map[string]string{
		"bangerd":     "/user.slice/user-1000.slice/user@1000.service/app.slice/banger-????-daemon-*.scope",
		"the VMM":     "/user.slice/user-1000.slice/user@1000.service/app.slice/banger-vm-*.scope",
		"banger-root": "/system.slice/banger-root-1000-" + pids["banger-root"] + ".scope",
	} {
		got := cgroup(pids[name])
		if ok, err := filepath.Match(scope, got); err != nil || !ok {
			t.Errorf("%s (process %q) is in %q, not in %s\n%s", name, pids[name], got, scope, in("cat /tmp/login.log /tmp/tty; ps -eo pid,ppid,comm,cgroup,args"))
		}
	}
	if got := cgroup(stray); filepath.Base(got) != "session-"+session+".scope" {
		t.Fatalf("the session's own process is in %s, so that this test shows nothing", got)
	}
	in("loginctl terminate-session " + session + "; timeout 60 sh -c 'while [ -e /proc/" + stray + " ]; do sleep 0.2; done'")
	for name, pid := range pids {
		if got := in("cat /proc/" + pid + "/comm 2>&1 || true"); strings.Contains(got, "No such file") {
			t.Errorf("%s has ended with the session", name)
		}
	}
	if got := b.dev(vm, "banger vm wait web --for ready --timeout 60s && banger vm list -q"); got.out != "web\n" {
		t.Errorf("after the session: %+v", got)
	}
	if got := b.dev(vm, wired); !strings.Contains(got.err, "no tap here") {
		t.Errorf("banger-root serves nobody after the session: %+v", got)
	}

	// Scopes go with what is in them.
	if got := b.dev(vm, "banger daemon stop --all"); got.code != 0 {
		t.Errorf("daemon stop --all: %+v\n%s", got, in("tail -n 30 ~dev/.local/state/banger/daemon.log"))
	}
	in("kill " + pids["banger-root"] + "; timeout 60 sh -c 'while pgrep -x banger-root; do sleep 0.2; done'")
	const gone = "timeout 60 sh -c 'while systemctl list-units --all --plain --no-legend \"banger-*\" | grep .; do sleep 0.2; done'"
	in(gone)
	b.dev(vm, strings.Replace(gone, "systemctl", "systemctl --user", 1))
	if got := b.dev(vm, "systemctl --user list-units --all --plain --no-legend 'banger-*'"); got.code != 0 || got.out != "" {
		t.Errorf("left of scopes: %+v", got)
	}
}
