package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"banger/internal/dns"
)

const (
	dnsNames  = 200
	dnsRounds = 5
	dnsFor    = "2"    // seconds, of one run
	dnsSteady = "2000" // queries per second at which answers are timed
)

var dnsSubnet = netip.MustParsePrefix("10.77.16.0/20")

// names compares banger's DNS with dnsmasq(8): the same records, asked for by the
// same dnsperf(1), each server a process of its own, in turns.
func (b *bench) names(ctx context.Context) ([]row, error) {
	const what = "DNS"
	for _, tool := range []string{"dnsmasq", "dnsperf"} {
		if _, err := exec.LookPath(tool); err != nil {
			return []row{notMeasured(what, "needs "+tool)}, nil
		}
	}
	dir, err := os.MkdirTemp("", "bench-dns-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	questions := filepath.Join(dir, "questions")
	if err := writeQuestions(questions, filepath.Join(dir, "hosts")); err != nil {
		return nil, err
	}
	ours, err := startChild(ctx, "names")
	if err != nil {
		return nil, err
	}
	defer ours.end()
	theirs, err := startDNSMasq(ctx, filepath.Join(dir, "hosts"))
	if err != nil {
		return nil, err
	}
	defer theirs.end()
	var per, cpu, p99 [2][]float64
	for i := range dnsRounds {
		progress("DNS, round %d of %d", i+1, dnsRounds)
		for j, s := range []*server{ours, theirs} {
			before := s.cpu()
			n, took, err := askAll(ctx, s.at, questions)
			if err != nil {
				return nil, err
			}
			per[j], cpu[j] = append(per[j], took/n), append(cpu[j], (s.cpu()-before)/n)
			slow, err := askSteadily(ctx, s.at, questions)
			if err != nil {
				return nil, err
			}
			p99[j] = append(p99[j], slow)
		}
	}
	const against = "dnsmasq, the same records"
	return []row{
		ratio("DNS, time per query when asked as fast as can be", per[0], against, per[1], 1),
		ratio("DNS, CPU time per query", cpu[0], against, cpu[1], 0),
		ratio("DNS, 99th percentile at "+dnsSteady+" queries per second", p99[0], against, p99[1], 1),
	}, nil
}

// writeQuestions writes what dnsperf asks for, and what dnsmasq answers with: of ten
// questions eight have an address, one has none of that type, one has no name.
func writeQuestions(questions, hosts string) error {
	var ask, have bytes.Buffer
	a := dnsSubnet.Addr()
	for i := range dnsNames {
		a = a.Next()
		name := fmt.Sprintf("vm%d.vm", i)
		fmt.Fprintf(&have, "%s %s\n", a, name)
		switch i % 10 {
		case 8:
			fmt.Fprintf(&ask, "%s AAAA\n", name)
		case 9:
			fmt.Fprintf(&ask, "not-%s A\n", name)
		default:
			fmt.Fprintf(&ask, "%s A\n", name)
		}
	}
	return errors.Join(os.WriteFile(questions, ask.Bytes(), 0o600), os.WriteFile(hosts, have.Bytes(), 0o644))
}

// serveNames is the child that answers until its standard input ends.
func serveNames(ctx context.Context) error {
	n := dns.NewNames(dnsSubnet)
	a := dnsSubnet.Addr()
	for i := range dnsNames {
		a = a.Next()
		n.Add(fmt.Sprintf("vm%d", i), a)
	}
	view := func(context.Context, netip.Addr) (*dns.Names, error) { return n, nil }
	s, err := dns.Listen(ctx, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, view, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fmt.Println(s.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	return s.Close(ctx)
}

// A server is a process that answers.
type server struct {
	cmd *exec.Cmd
	at  netip.AddrPort
	in  interface{ Close() error } // ends it, if it is not nil
}

// startChild starts this program to be the server, and returns once it says where.
func startChild(ctx context.Context, what string) (*server, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-child", what)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.at, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		s.end()
		return nil, fmt.Errorf("start a server of names: %w", err)
	}
	return s, nil
}

// startDNSMasq starts dnsmasq(8) on a free port, with the records of a hosts(5) file.
func startDNSMasq(ctx context.Context, hosts string) (*server, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	cmd := exec.CommandContext(ctx, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts", "--no-poll",
		"--addn-hosts="+hosts, "--local=/vm/", "--local-ttl=0", "--bind-interfaces", "--listen-address=127.0.0.1", "--port="+strconv.Itoa(int(at.Port())))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, at: at}
	for range 500 {
		c, err := net.Dial("tcp4", at.String())
		if err == nil {
			c.Close()
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.end()
	return nil, errors.New("dnsmasq does not answer")
}

func (s *server) end() {
	if s.in != nil {
		s.in.Close()
	} else {
		_ = s.cmd.Process.Kill()
	}
	_ = s.cmd.Wait()
}

// cpu is the CPU time that the server has used, seconds.
func (s *server) cpu() float64 {
	stat := read(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / clockTick
}

func dnsperf(ctx context.Context, at netip.AddrPort, questions string, more ...string) ([]byte, error) {
	args := append([]string{"-s", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-d", questions, "-l", dnsFor, "-c", "8", "-T", "1"}, more...)
	out, err := exec.CommandContext(ctx, "dnsperf", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	return out, nil
}

// askAll asks as fast as can be, and returns how many questions were answered, and in
// how many seconds.
func askAll(ctx context.Context, at netip.AddrPort, questions string) (n, took float64, err error) {
	out, err := dnsperf(ctx, at, questions)
	if err != nil {
		return 0, 0, err
	}
	var lost float64
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		word, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch key {
		case "Queries completed":
			n, err = strconv.ParseFloat(word, 64)
		case "Queries lost":
			lost, err = strconv.ParseFloat(word, 64)
		case "Run time (s)":
			took, err = strconv.ParseFloat(word, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("dnsperf says %q: %w", line, err)
		}
	}
	if n == 0 || took == 0 || lost > n/1000 {
		return 0, 0, fmt.Errorf("%v answers in %v s, %v lost: %s", n, took, lost, out)
	}
	return n, took, nil
}

// askSteadily asks at a rate that both servers keep up with, and returns the time that
// 99 of 100 answers took at most, seconds.
func askSteadily(ctx context.Context, at netip.AddrPort, questions string) (float64, error) {
	out, err := dnsperf(ctx, at, questions, "-Q", dnsSteady, "-v")
	if err != nil {
		return 0, err
	}
	var took []float64
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // > NOERROR vm1.vm A 0.000123
		if len(f) == 5 && f[0] == ">" {
			s, err := strconv.ParseFloat(f[4], 64)
			if err != nil {
				return 0, fmt.Errorf("dnsperf says %q", line)
			}
			took = append(took, s)
		}
	}
	if len(took) < 100 {
		return 0, fmt.Errorf("%d answers: %s", len(took), out)
	}
	slices.Sort(took)
	return took[len(took)*99/100], nil
}
