package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
)

const (
	throughRounds = 8
	throughFor    = "2" // seconds, of one run
	farAddr       = "192.0.2.2"
)

// bare is the least that lets a machine behind this host reach the world.
const bare = `table ip bare {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "up0" masquerade
	}
}
`

// through compares TCP from a guest out to the world through banger's rules with the
// same through one masquerade rule: iperf3(1) in namespaces that are joined by veth(4)
// cables, since what moves a tap's frames is a VMM, and slower.
func (b *bench) through(ctx context.Context) (rows []row, err error) {
	const what = "TCP out through NAT, time per GB"
	if os.Geteuid() != 0 {
		return []row{notMeasured(what, "needs root")}, nil
	}
	for _, tool := range []string{"iperf3", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return []row{notMeasured(what, "needs "+tool)}, nil
		}
	}
	var paths [2]*path
	for i := range paths {
		if paths[i], err = newPath(ctx, i == 1); err != nil {
			return nil, err
		}
		defer paths[i].close()
	}
	var samples, cpu [2][]float64
	for n := range throughRounds + 1 {
		progress("TCP through the rules, round %d of %d", n, throughRounds)
		for i, p := range paths {
			s, used, err := p.measure(ctx)
			if err != nil {
				return nil, err
			}
			if n > 0 { // the first ones warm up
				samples[i], cpu[i] = append(samples[i], s), append(cpu[i], used)
			}
		}
	}
	const against = "one masquerade rule"
	return []row{
		ratio(what, samples[0], against, samples[1], 1/0.97),
		ratio("the same, CPU time of both ends", cpu[0], against, cpu[1], 0),
	}, nil
}

// A path is a guest, a host that forwards, and the world, a namespace each.
type path struct {
	guest, host, world *netns.Thread
	server             *exec.Cmd
}

func (p *path) close() {
	if p.server != nil {
		_ = p.server.Process.Kill()
		_ = p.server.Wait()
	}
	for _, th := range []*netns.Thread{p.guest, p.host, p.world} {
		if th != nil {
			th.Close()
		}
	}
}

// newPath makes one with banger's rules, or with the bare rule instead.
func newPath(ctx context.Context, isBare bool) (p *path, err error) {
	p = &path{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, th := range []**netns.Thread{&p.guest, &p.host, &p.world} {
		if *th, err = netns.Open(); err != nil {
			return p, err
		}
	}
	c := desired(1)
	tap := addr.TapName(setUID, setTag, c.Taps[0].VM)
	if err = p.cable(setUplink, p.world); err != nil {
		return p, err
	}
	gateway := network.SubnetOf(c.Subnet).Gateway.String()
	at := c.Taps[0].Addr.String()
	p.host.Do(func() {
		if err = batch(ctx, "address add 192.0.2.1/24 dev "+setUplink, "link set up dev "+setUplink, "route add default via "+farAddr); err != nil {
			return
		}
		if _, err = link.New(setUID).Apply(c); err != nil {
			return
		}
		err = batch(ctx, "link delete dev "+tap)
	})
	if err != nil {
		return p, err
	}
	if err = p.cable(tap, p.guest); err != nil { // rules know it by its name
		return p, err
	}
	p.host.Do(func() {
		err = batch(ctx, "link set up dev "+tap, "route add "+at+"/32 dev "+tap+" src "+gateway)
		if err == nil {
			err = os.WriteFile("/proc/sys/net/ipv4/conf/"+tap+"/forwarding", []byte("1"), 0)
		}
		if err == nil && isBare {
			err = nft(ctx, fmt.Sprintf("delete table inet banger_%d_%s\n", setUID, setTag)+bare)
		}
	})
	if err != nil {
		return p, err
	}
	p.guest.Do(func() {
		err = batch(ctx, "address add "+at+"/32 dev eth0", "link set up dev eth0", "route add "+gateway+"/32 dev eth0 scope link", "route add default via "+gateway+" dev eth0")
	})
	if err != nil {
		return p, err
	}
	p.world.Do(func() {
		if err = batch(ctx, "address add "+farAddr+"/24 dev eth0", "link set up dev eth0"); err != nil {
			return
		}
		p.server = exec.CommandContext(ctx, "iperf3", "-s")
		err = p.server.Start()
	})
	return p, err
}

// cable joins a link of the host to eth0 of a machine.
func (p *path) cable(name string, machine *netns.Thread) (err error) {
	var ns int
	machine.Do(func() { ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	p.host.Do(func() {
		a := netlink.NewLinkAttrs()
		a.Name = name
		err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)})
	})
	return err
}

// measure is how long a guest takes to send 10^9 bytes, and the CPU time that both ends
// use for it, in which is most of what the host does for each packet; seconds.
func (p *path) measure(ctx context.Context) (took, cpu float64, err error) {
	for range 100 { // until the server listens
		var out []byte
		var err error
		p.guest.Do(func() { out, err = exec.CommandContext(ctx, "iperf3", "-J", "-t", throughFor, "-c", farAddr).Output() })
		var said struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
				CPU struct { // in percent of the time
					Guest float64 `json:"host_total"`
					World float64 `json:"remote_total"`
				} `json:"cpu_utilization_percent"`
			}
			Error string
		}
		if jerr := json.Unmarshal(out, &said); jerr != nil {
			return 0, 0, errors.Join(err, jerr)
		}
		switch {
		case strings.Contains(said.Error, "refused"):
			time.Sleep(50 * time.Millisecond)
		case err != nil || said.Error != "" || said.End.Received.Rate == 0:
			return 0, 0, fmt.Errorf("iperf3: %w: %s", err, said.Error)
		default:
			took = 8e9 / said.End.Received.Rate
			return took, took * (said.End.CPU.Guest + said.End.CPU.World) / 100, nil
		}
	}
	return 0, 0, errors.New("iperf3 -s refuses connections")
}

// batch runs lines of ip(8).
func batch(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

func nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}
