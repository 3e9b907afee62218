package firecracker_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const tool = "firecracker"

// TestMain is also the stand-in: the test binary under Firecracker's name serves
// its API and boots nothing.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == tool {
		// Not os.Exit: the race detector's takes a second.
		syscall.Exit(standIn(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// A vmm is the stand-in. What it does wrong stands in a file beside its socket.
type standin struct {
	dir, what, arg string

	mu    sync.Mutex
	state string
	log   *os.File // of requests
	end   chan int
}

func standIn(argv []string) int {
	if slices.Contains(argv, "--version") {
		fmt.Print("Firecracker v1.12.1\n\n")
		return 0
	}
	socket := after(argv, "--api-sock")
	s := &standin{dir: filepath.Dir(socket), state: "Not started", end: make(chan int, 1)}
	b, _ := os.ReadFile(filepath.Join(s.dir, "standin"))
	s.what, s.arg, _ = strings.Cut(string(b), ":")
	var err error
	if s.log, err = os.OpenFile(filepath.Join(s.dir, "requests"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch s.what {
	case "die":
		fmt.Fprint(os.Stderr, "first\nsecond \x1b[2J\nthird\n")
		return 3
	case "zero":
		return 0
	case "mute":
		// Not select {}: without another goroutine Go ends the program for it.
		unix.Pause()
	case "deaf":
		signal.Ignore(unix.SIGTERM)
	case "refuse": // bound, and nobody listens
		fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
			return 1
		}
		unix.Pause()
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if s.what == "forbid" {
		os.Chmod(socket, 0)
	}
	go http.Serve(l, s)
	return <-s.end
}

func (s *standin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	request := strings.TrimSpace(r.Method + " " + r.URL.Path + " " + strings.TrimSpace(string(body)))
	fmt.Fprintln(s.log, request)
	switch {
	case s.what == "hang" && strings.HasPrefix(request, s.arg):
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		return
	case s.what == "slow" && strings.HasPrefix(request, s.arg):
		time.Sleep(600 * time.Millisecond) // a loaded host; the SDK gives up after 500
	case s.what == "fault" && strings.HasPrefix(request, s.arg):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"fault_message":"no \u001b[1m such thing"}`)
		return
	case s.what == "flood" && strings.HasPrefix(request, s.arg):
		w.WriteHeader(http.StatusBadRequest)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	case s.what == "garbage" && strings.HasPrefix(request, s.arg):
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "{]")
		return
	case s.what == "vanish" && strings.HasPrefix(request, s.arg):
		s.end <- 148
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		if r.URL.Path == "/" {
			json.NewEncoder(w).Encode(map[string]string{"app_name": "Firecracker", "id": "x", "state": s.state, "vmm_version": "1.12.1"})
			return
		}
		fmt.Fprint(w, `{"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"}`)
		return
	}
	w.WriteHeader(http.StatusNoContent)
	if r.URL.Path == "/vsock" {
		var device struct {
			Path string `json:"uds_path"`
		}
		json.Unmarshal(body, &device)
		s.serveVSock(device.Path)
	}
	if r.URL.Path == "/vm" {
		s.state = "Running"
		if strings.Contains(string(body), "Paused") {
			s.state = "Paused"
		}
	}
	if r.URL.Path != "/actions" {
		return
	}
	w.(http.Flusher).Flush() // whoever asked is answered before it ends
	if strings.Contains(request, "InstanceStart") {
		s.state = "Running"
		s.boot()
	} else {
		fmt.Println("[    2.500000] reboot: Restarting system")
		s.end <- 0
	}
}

// serveVSock answers as Firecracker does for a guest that listens on port 5122 and
// echoes, or with what it was told to.
func (s *standin) serveVSock(path string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				asked, err := r.ReadString('\n')
				fmt.Fprintf(s.log, "vsock %q\n", asked)
				switch {
				case err != nil:
				case s.what == "greet":
					c.Write([]byte(s.arg))
					if !strings.Contains(s.arg, "\n") && s.arg != "" {
						io.Copy(io.Discard, r) // it goes on, but for what the caller does
					}
				case s.what == "numb": // no driver in the guest
					io.Copy(io.Discard, r)
				case asked == "CONNECT 5122\n":
					// The guest's first bytes come with the answer.
					c.Write([]byte("OK 1073741824\nhello\n"))
					io.Copy(c, r)
				}
			}()
		}
	}()
}

// boot is what a guest does once it was started.
func (s *standin) boot() {
	fmt.Print("guest up\r\n")
	switch s.what {
	case "say": // and stay
		fmt.Print(s.arg)
	case "reset":
		fmt.Print(s.arg)
		s.end <- 0
	case "crash":
		s.end <- 149
	}
}

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}
