package launch_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/layout"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Started under this name the test is a small bangerd: it takes the lock,
// listens and ends when it is asked to.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "bangerd" {
		os.Exit(fakeDaemon())
	}
	goleak.VerifyTestMain(m)
}

// How the small bangerd behaves; BANGER_ variables reach a daemon.
const (
	behaviour   = "BANGER_FAKE"
	fakeBuild   = "BANGER_FAKE_BUILD"
	dies        = "dies"        // says why and ends
	diesSilent  = "dies-silent" // ends
	isBusy      = "busy"        // refuses to be replaced
	neverListen = "deaf"        // takes the lock and no more
)

func fakeDaemon() int {
	switch os.Getenv(behaviour) {
	case dies:
		fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"bangerd starts"}`)
		fmt.Fprintln(os.Stderr, "bangerd: the database is \x1b newer than this build\n  use the newer one")
		return 5
	case diesSilent:
		return 1
	}
	l, err := layout.Resolve(os.Getenv, os.Geteuid())
	if err != nil {
		panic(err)
	}
	lock, err := os.OpenFile(l.Lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		panic(err)
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		// A reader may hold it for an instant; a daemon that holds it does
		// so until this one has lost. The real one tries for a second.
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			fmt.Fprintln(os.Stderr, "bangerd: another bangerd holds the lock")
			return 1
		}
	}
	if err := lock.Truncate(0); err != nil { // as the real one: who holds it has not announced the socket yet
		panic(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if os.Getenv(behaviour) != neverListen {
		if err := fakeServe(l, lock, stop); err != nil {
			panic(err)
		}
	}
	<-stop
	return 0
}

func fakeServe(l layout.Layout, lock *os.File, stop chan os.Signal) error {
	_ = os.Remove(l.Socket())
	sock, err := net.Listen("unix", l.Socket())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.Prefix+api.DaemonStatus, func(w http.ResponseWriter, _ *http.Request) {
		api.WriteJSON(w, api.Status{PID: os.Getpid()})
	})
	mux.HandleFunc("POST "+api.Prefix+api.DaemonStop, func(w http.ResponseWriter, r *http.Request) {
		var req api.StopDaemonRequest
		if err := api.Decode(r, &req); err != nil {
			api.WriteError(w, err)
			return
		}
		if req.Replace && os.Getenv(behaviour) == isBusy {
			api.WriteError(w, banger.Errorf(banger.Busy, "a VM is being made"))
			return
		}
		api.WriteJSON(w, struct{}{})
		stop <- syscall.SIGTERM
	})
	go http.Serve(sock, mux)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	fi, err := os.Stat(exe)
	if err != nil {
		return err
	}
	b, err := json.Marshal(api.LockFile{
		PID: os.Getpid(), Build: os.Getenv(fakeBuild), API: api.Version,
		Exe: exe, ExeMtime: fi.ModTime().UnixNano(), Socket: l.Socket(), Log: l.DaemonLog(),
		Config: l.ConfigFile(), LogLevel: "info",
	})
	if err != nil {
		return err
	}
	_, err = lock.WriteAt(b, 0)
	return err
}
