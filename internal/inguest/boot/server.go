package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// Where the guest program keeps what is its own, inside the new root.
const (
	RunDir     = "/run/banger" // 0700
	stateFile  = RunDir + "/state.json"
	coversDir  = RunDir + "/covers"
	cgroupDir  = RunDir + "/cgroup"
	cgroupName = "banger"
	watchName  = "banger-supervisor"

	shutdownFile = "/run/initramfs/shutdown"
	launchFile   = "banger-launch" // beside it
)

// ServeArg and SuperviseArg are the arguments by which the guest program, which
// starts itself, knows what it is to be.
const (
	ServeArg     = "serve"
	SuperviseArg = "supervise"
)

// selfExe is this program, also where its file is gone or below another mount:
// it still lies in the initramfs, of which the new root shows nothing.
const selfExe = "/proc/self/exe"

// A State is what the server must know, also after a restart.
type State struct {
	Identity guestapi.Identity `json:"identity"`
	Init     string            `json:"init"`    // the image's, symlinks resolved; "": the guest program itself
	Problem  string            `json:"problem"` // what the VM should have and lives without; "": nothing
}

// LoadState reads what the first process left for the server.
func LoadState() (State, error) {
	var s State
	text, err := os.ReadFile(stateFile)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	return s, nil
}

// startServer starts the server and then, since the way to the first login is
// what everybody waits for, its supervisor.
func startServer(s State, init string) error {
	if init != "" {
		s.Init, _ = resolve("/", init)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(stateFile, text, 0o600); err != nil {
		return err
	}
	lock, err := takeSupervisorLock() // before the server, which waits for it
	if err != nil {
		return err
	}
	group, watch, err := ownCgroups()
	complain("make cgroups", err)
	defer closeAll(lock, group, watch)
	server, err := startSelf(ServeArg, serverNice, group, nil)
	if err != nil {
		return err
	}
	_, err = startSupervisor(server, lock, group, watch)
	complain("start supervisor", err)
	return nil
}

// ownCgroups makes /banger, for the server and what it runs, and a group beside
// it for the supervisor, which must outlive whoever kills all of the first
// (cgroup.kill, an out-of-memory daemon). They are made on a cgroup2 that is
// mounted aside for just that: systemd, which then mounts its own, leaves them
// alone. Those that are there stay. nil, nil, err where the kernel has none.
func ownCgroups() (group, watch *os.File, err error) {
	if err := mount(fileSystem{"cgroup2", cgroupDir, "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}); err != nil {
		return nil, nil, err
	}
	defer os.Remove(cgroupDir)
	defer unix.Unmount(cgroupDir, unix.MNT_DETACH)
	if group, err = makeCgroup(cgroupName); err != nil {
		return nil, nil, err
	}
	if watch, err = makeCgroup(watchName); err != nil {
		group.Close()
		return nil, nil, err
	}
	return group, watch, nil
}

func makeCgroup(name string) (*os.File, error) {
	dir := filepath.Join(cgroupDir, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Open(dir)
}

// handedCgroup is the server's group, which the supervisor was given as a
// descriptor; nil where there is none.
func handedCgroup(fd int) *os.File {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), cgroupName)
}

// The first login competes with the image's init for a single, perhaps emulated
// CPU, and so does the supervisor's copying, which can wait.
const (
	serverNice     = -10
	supervisorNice = 19
)

// ownName is argv[0] of the server and its supervisor. It begins with "@": that
// spares them when systemd, shutting down, kills all that is left.
const ownName = "@banger-guest"

// startSelf starts this program in another role, in a session of its own. The
// priority is the session's (sched(7), autogroup): what the server runs has
// sessions of its own again, and the usual priority.
func startSelf(role string, nice int, group *os.File, extra []uintptr) (int, error) {
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + searchPath, "HOME=/root", "GOTRACEBACK=single"},
		Files: append([]uintptr{0, 1, 2}, extra...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.Fd())
	}
	pid, err := syscall.ForkExec(selfExe, []string{ownName, role}, attr)
	if err != nil {
		return 0, err
	}
	// best effort: a kernel without autogroups schedules all alike
	os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(nice)), 0)
	return pid, nil
}

// Protected and unprotected are oom_score_adj: when memory runs out, what the
// user runs must go first, since without the server nobody gets in.
const (
	protected   = -1000
	unprotected = 0
)

// setOOM changes this process's score; children inherit it.
func setOOM(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}
