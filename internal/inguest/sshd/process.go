package sshd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A process is a session's command while it runs. It leads a session of its
// own, so that signals reach all of it.
type process struct {
	proc   *os.Process
	stdin  *os.File   // our ends; with a terminal all three are its master
	output []*os.File // stdout, and stderr where it is apart
	master *os.File   // nil without a terminal

	mu    sync.Mutex
	ended bool // reaped: its number may be somebody else's
}

// A terminalReader reads a terminal's master until the command has ended and
// nothing more comes. Waiting for the end of file would not do: a program in
// the background keeps the terminal open, though it is cut off from it when the
// command, whose terminal it was, ends.
type terminalReader struct{ *process }

// drainLimit is how long the kernel may take to hand over what the command
// wrote last, and is what an exit costs while others have the terminal open.
const drainLimit = 200 * time.Millisecond

func (r terminalReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	if r.ended {
		r.master.SetReadDeadline(time.Now().Add(drainLimit))
	}
	r.mu.Unlock()
	return r.master.Read(b)
}

// start makes the command's streams and the command.
func (s *session) start(cmd command) (*process, error) {
	if cmd.failed != nil {
		return nil, cmd.failed
	}
	dir, err := workDir(cmd)
	if err != nil {
		return nil, err
	}
	streams, err := s.streams(cmd.account)
	if err != nil {
		return nil, err
	}
	defer streams.closeChild()
	env := s.environment(cmd, streams.tty)
	file, err := find(cmd, env, dir)
	if err != nil {
		streams.closeOwn()
		return nil, err
	}
	attr := &os.ProcAttr{Dir: dir, Env: env, Files: streams.child[:], Sys: &syscall.SysProcAttr{
		Setsid: true, Setctty: streams.tty != "", Credential: s.credential(cmd.account),
	}}
	p := &process{stdin: streams.stdin, output: streams.output, master: streams.master}
	err = s.conn.srv.cfg.Starter(func() (err error) {
		p.proc, err = os.StartProcess(file, cmd.argv, attr)
		return err
	})
	if err != nil {
		streams.closeOwn()
		return nil, fmt.Errorf("start %s: %w", cmd.argv[0], err)
	}
	return p, nil
}

// stay copies the command's streams and tells how it ended. As with OpenSSH the
// status is sent when the command ends, while the channel is closed when all
// that it left running has closed its output too.
func (s *session) stay(p *process) {
	go p.feed(s.ch) // ends with the channel or when the command reads no more
	var out sync.WaitGroup
	to := []io.Writer{s.ch, s.ch.Stderr()}
	for i, f := range p.output {
		out.Go(func() {
			if p.master != nil {
				io.Copy(to[i], terminalReader{p})
				return
			}
			io.Copy(to[i], f)
			f.Close() // nobody reads any more: a writer gets SIGPIPE
		})
	}
	s.sendExit(p.wait())
	out.Wait()
	s.ch.CloseWrite()
	s.ch.Close()
	p.stdin.Close()
}

// wait reaps the command once it has ended. Its number is not free before that,
// and no signal is sent after it.
func (p *process) wait() (*os.ProcessState, error) {
	for {
		err := unix.Waitid(unix.P_PID, p.proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.master != nil {
		p.master.SetReadDeadline(time.Now().Add(drainLimit)) // for a Read under way
	}
	return p.proc.Wait()
}

// feed passes the client's input on. Its end is the end of a pipe; a terminal
// is told with ^D.
func (p *process) feed(from io.Reader) {
	io.Copy(p.stdin, from)
	if p.master != nil {
		p.master.Write([]byte{4})
		return
	}
	p.stdin.Close()
}

func (s *session) sendExit(st *os.ProcessState, err error) {
	if err != nil {
		s.conn.srv.cfg.Log.Error("wait for command", "error", err)
		return
	}
	ws := st.Sys().(syscall.WaitStatus)
	if !ws.Signaled() {
		s.exit(ws.ExitStatus())
		return
	}
	s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Signal        string
		CoreDumped    bool
		Message, Lang string
	}{signalName(ws.Signal()), ws.CoreDump(), "", ""}))
}

// signal sends a signal, named without SIG, to the command's process group.
func (p *process) signal(name string) bool {
	sig := unix.SignalNum("SIG" + name)
	return sig != 0 && p.kill(sig)
}

func (p *process) kill(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended && unix.Kill(-p.proc.Pid, sig) == nil
}

// hangUp tells the command that its client is gone. A stopped one must run to
// hear it.
func (p *process) hangUp() {
	p.kill(unix.SIGHUP)
	p.kill(unix.SIGCONT)
	if p.master != nil {
		p.master.Close() // and the kernel hangs up on whoever has the terminal
	}
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); len(name) > 3 {
		return name[3:]
	}
	return fmt.Sprintf("RT%d", int(sig)) // real-time signals have no name in SSH
}
