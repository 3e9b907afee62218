// Banger-guest is the program inside every VM: the initramfs's /init, the SSH
// server and its supervisor, and the last program that systemd calls.
package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot"
	"banger/internal/inguest/sshd"
)

// sftpArg makes the program serve sftp to one user on its standard streams.
const sftpArg = "sftp"

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "shutdown": // PID 1 too: systemd becomes it
		boot.Shutdown(os.Args[0], os.Args[1:])
	case os.Getpid() == 1:
		boot.Init()
	case role == boot.ServeArg:
		err = serve()
	case role == boot.SuperviseArg:
		boot.Supervise()
	case role == sftpArg:
		err = sshd.ServeSFTP(streams{}, os.Getenv("HOME"))
	default:
		err = fmt.Errorf("this program is started by banger inside a VM, not by hand")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "banger-guest:", err)
		os.Exit(1)
	}
}

func serve() error {
	boot.Outlive()
	state, err := boot.LoadState()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	v, err := boot.ListenVSock(guestapi.Port) // first: the host knows by that whether it works
	if err != nil {
		log.Warn("the host cannot come by vsock", "err", err)
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(guestapi.Port))
	if err != nil {
		return err
	}
	go boot.KeepSupervisor()
	s, err := sshd.New(sshd.Config{
		HostKey: state.Identity.HostKey, AuthorizedKeys: state.Identity.AuthorizedKeys,
		Machine: boot.NewMachine(state), Starter: boot.Protected(), Log: log,
		SFTP: []string{"/proc/self/exe", sftpArg},
	})
	if err != nil {
		return err
	}
	if v != nil {
		go func() { log.Warn("vsock", "err", s.Serve(v)) }()
	}
	return s.Serve(l)
}

// streams are standard input and output as one.
type streams struct{}

func (streams) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (streams) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (streams) Close() error                { return os.Stdin.Close() }
