package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"banger/internal/inguest/boot"
)

// Much of this package acts on /, on the host name and on the whole machine. Its
// tests run it for real in namespaces of their own, whose user owns nothing of
// the machine's: this binary starts itself as such a first process.
const roleVar = "BANGER_BOOT_TEST"

var roles = map[string]func(){
	"apply":           func() { apply(false) },
	"apply read-only": func() { apply(true) },
	"keep tmp": func() {
		err := boot.KeepTmp()
		var st unix.Statfs_t
		fmt.Println(err, unix.Statfs("/tmp", &st), st.Type == unix.TMPFS_MAGIC)
	},
	"small init":   func() { fmt.Fprintln(os.Stderr, boot.SmallInit("0011223344556677")) },
	"keep network": keepNetwork,
	"poweroff":     func() { boot.EndMachine("0011223344556677", boot.PowerOff) },
	"reboot":       func() { boot.EndMachine("0011223344556677", boot.Reboot) },
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if os.Getpid() != 1 {
		panic("not in a PID namespace of its own: this would end the machine")
	}
	if err := enter(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "enter:", err)
		os.Exit(99)
	}
	roles[role]()
	os.Exit(0)
}

// enter makes dir the root directory and gives it a /proc.
func enter(dir string) error {
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""),
		unix.Chroot(dir),
		os.Chdir("/"),
	)
}

// machine returns a root directory with proc and run in it.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"proc", "run"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// start starts role as the first process of a machine whose root is root.
func start(t *testing.T, role, root string, out *bytes.Buffer) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, root)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stdout, cmd.Stderr = out, out
	id := func(n int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: n, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
		UidMappings: id(os.Getuid()), GidMappings: id(os.Getgid()),
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("user namespaces do not work here: %v", err)
	}
	return cmd
}

// run runs role to its end and returns how it ended and what it printed.
func run(t *testing.T, role, root string) (syscall.WaitStatus, string) {
	t.Helper()
	var out bytes.Buffer
	cmd := start(t, role, root, &out)
	cmd.Wait()
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.ExitStatus() == 99 {
		t.Skipf("namespaces are restricted here: %s", &out)
	}
	return ws, out.String()
}

func read(t *testing.T, name ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func apply(readOnly bool) {
	id, err := boot.ParseIdentity([]byte(os.Getenv("IDENTITY")))
	if err == nil {
		err = boot.ApplyIdentity(id, readOnly)
	}
	name, _ := os.Hostname()
	fmt.Println(name, err)
	if readOnly { // what is mounted is seen in here only
		for _, f := range []string{"/etc/hostname", "/etc/machine-id", "/etc/hosts", "/etc/resolv.conf"} {
			b, _ := os.ReadFile(f)
			fmt.Print(string(b))
		}
	}
}
