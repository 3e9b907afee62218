package sshd

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
)

// A session is one session channel: what was asked for it, then its command.
type session struct {
	conn     *conn
	ch       ssh.Channel
	env      []string
	envBytes int
	pty      *ptyRequest
	agent    *agentSocket // nil: not forwarded
	proc     *process     // nil until it is started
	began    bool         // something was asked to run; there is one per session
}

// serveSession drains the channel's requests for as long as it lives and never
// waits for a command or for the client in between: the whole connection would.
func (c *conn) serveSession(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	s := &session{conn: c, ch: ch}
	for r := range reqs {
		ok, after := s.handle(r)
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if after != nil { // only now: the answer comes before the output
			go after() // not waited for: a command may ignore the hang-up
		}
	}
	if s.proc != nil {
		s.proc.hangUp()
	}
	if s.agent != nil {
		s.agent.close()
	}
	ch.Close()
}

// handle does what r asks; after is what runs from then on.
func (s *session) handle(r *ssh.Request) (ok bool, after func()) {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		return ssh.Unmarshal(r.Payload, &m) == nil && s.setenv(m.Name, m.Value), nil
	case "pty-req":
		p, err := parsePTY(r.Payload)
		if err != nil || s.began {
			return false, nil
		}
		s.pty = p
		return true, nil
	case "auth-agent-req@openssh.com":
		if s.began || s.agent != nil {
			return false, nil
		}
		if err := s.forwardAgent(); err != nil {
			s.conn.srv.cfg.Log.Warn("forward agent", "error", err)
			return false, nil
		}
		return true, nil
	case "window-change":
		size, err := parseWindow(r.Payload)
		return err == nil && s.resize(size), nil
	case "signal":
		var m struct{ Name string }
		return ssh.Unmarshal(r.Payload, &m) == nil && s.proc != nil && s.proc.signal(m.Name), nil
	case "shell", "exec", "subsystem", guestapi.ExecRequest, guestapi.CopyRequest:
		return s.begin(r)
	}
	return false, nil
}

func (s *session) setenv(name, value string) bool {
	if !guestapi.ValidVariable(name+"="+value) || len(s.env) == guestapi.MaxEnv || s.envBytes+len(name)+len(value) > guestapi.MaxCommand {
		return false
	}
	s.envBytes += len(name) + len(value)
	s.env = append(s.env, name+"="+value)
	return true
}

func (s *session) resize(size window) bool {
	if s.pty == nil {
		return false
	}
	s.pty.window = size
	return s.proc == nil || s.proc.resize(size)
}

// begin starts what r asks for. A command that cannot be started is answered
// as a shell would: words on stderr and a status of 126 or 127.
func (s *session) begin(r *ssh.Request) (bool, func()) {
	if s.began {
		return false, nil
	}
	switch r.Type {
	case "subsystem":
		return s.beginSubsystem(r.Payload)
	case guestapi.CopyRequest:
		return s.beginCopy(r.Payload)
	}
	cmd, err := s.command(r)
	if err != nil {
		return false, nil
	}
	s.began = true
	return true, s.run(cmd)
}

// run starts cmd and returns what stays with it.
func (s *session) run(cmd command) func() {
	p, err := s.start(cmd)
	if err != nil {
		return func() {
			fmt.Fprintf(s.ch.Stderr(), "banger: %v\n", err)
			s.exit(exitCodeOf(err))
			s.ch.Close()
		}
	}
	s.proc = p
	return func() { s.stay(p) }
}

// command reads what is to run, and as whom.
func (s *session) command(r *ssh.Request) (command, error) {
	a := s.conn.account
	switch r.Type {
	case "shell":
		// A leading dash makes it a login shell.
		return command{account: a, argv: []string{"-" + path.Base(a.Shell)}, file: a.Shell, env: s.env}, nil
	case "exec":
		var m struct{ Command string }
		if err := ssh.Unmarshal(r.Payload, &m); err != nil {
			return command{}, err
		}
		return command{account: a, argv: []string{path.Base(a.Shell), "-c", m.Command}, file: a.Shell, env: s.env}, nil
	}
	var m struct{ JSON string }
	var e guestapi.Exec
	if err := ssh.Unmarshal(r.Payload, &m); err != nil {
		return command{}, err
	}
	if err := json.Unmarshal([]byte(m.JSON), &e); err != nil {
		return command{}, err
	}
	cmd, err := s.vector(e)
	if err != nil { // a refusal would not say why
		return command{account: s.conn.account, failed: err}, nil
	}
	return cmd, nil
}

// vector checks an argv that came as one.
func (s *session) vector(e guestapi.Exec) (command, error) {
	a := s.conn.account
	if len(e.Argv) == 0 || e.Argv[0] == "" {
		return command{}, fmt.Errorf("no command")
	}
	for _, arg := range e.Argv {
		if strings.ContainsRune(arg, 0) {
			return command{}, fmt.Errorf("an argument contains a zero byte")
		}
	}
	if user := string(e.User); user != "" && user != a.Name {
		if a.UID != 0 {
			return command{}, fmt.Errorf("only root may run commands as somebody else")
		}
		other, err := s.conn.srv.users().login(user)
		if err != nil {
			return command{account: a, failed: err}, nil
		}
		a = other
	}
	for _, kv := range e.Env {
		name, value, _ := strings.Cut(kv, "=")
		if !s.setenv(name, value) {
			return command{}, fmt.Errorf("variable %q cannot be set", name)
		}
	}
	return command{account: a, argv: e.Argv, env: s.env, dir: string(e.Dir)}, nil
}

func (s *session) exit(code int) {
	s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
}
