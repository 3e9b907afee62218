package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"banger"
)

// Of the networks that are made by hand.
const (
	handTap      = "byhand0"
	handAddress  = "172.31.0.5"
	handGateway  = "172.31.0.1"
	handResolver = "172.31.0.2"
	handMAC      = "02:00:00:00:00:02"
	handTapMAC   = "02:00:00:00:00:03"
	handSubnet   = "172.31.0.0/20"
	handUplink   = "eth0"
)

// An fcModel is how banger started a VM on Firecracker, as Firecracker itself tells.
type fcModel struct {
	config  map[string]json.RawMessage // GET /vm/config
	dir     string
	base    string // image
	disk    int64  // bytes
	work    int64  // bytes
	release string // guest's kernel
	guest   string // banger-guest
}

// show is a VM as banger tells it.
func (l *labBench) show(ctx context.Context, name string) (v vm, err error) {
	out, err := l.banger(ctx, "vm", "show", name, "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &v)
	}
	return v, err
}

// learn starts a VM of banger's, which registers the bundle, and reads how it was started.
func (l *labBench) learn(ctx context.Context) error {
	const name = "model"
	if err := l.start(ctx, name); err != nil {
		return err
	}
	v, err := l.show(ctx, name)
	if err != nil {
		return err
	}
	m := &l.model
	m.dir, m.disk, m.work, m.guest = filepath.Dir(v.SerialLog), v.Disk, v.WorkDisk, "/usr/local/bin/banger-guest"
	if m.base, err = l.blob(banger.KindImage); err != nil {
		return err
	}
	config, err := exec.CommandContext(ctx, "curl", "-sS", "--fail", "--unix-socket", filepath.Join(m.dir, "api.sock"), "http://localhost/vm/config").Output()
	if err != nil {
		return fmt.Errorf("ask Firecracker how it was configured: %w", err)
	}
	if err := json.Unmarshal(config, &m.config); err != nil {
		return err
	}
	if m.release, err = l.banger(ctx, "vm", "exec", name, "--", "uname", "-r"); err != nil {
		return err
	}
	if _, err = l.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return err
	}
	_, err = l.steps()
	return err
}

// requests are what curl(1) is to ask of Firecracker for the same VM by hand, as a
// file for its -K; or for one of the stock image, which has one disk.
func (m *fcModel) requests(stock *stockImage) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("fail-early\n")
	put := func(path string, body any) error {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		if b.Len() > len("fail-early\n") {
			b.WriteString("next\n")
		}
		fmt.Fprintf(&b, "url = \"http://localhost/%s\"\nrequest = PUT\nunix-socket = api.sock\nsilent\nshow-error\nfail-with-body\ndata = %q\n", path, text)
		return nil
	}
	var boot map[string]any
	var drives, cards []map[string]any
	err := errors.Join(json.Unmarshal(m.config["boot-source"], &boot), json.Unmarshal(m.config["drives"], &drives), json.Unmarshal(m.config["network-interfaces"], &cards))
	if err != nil || len(drives) != 3 || len(cards) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%d drives and %d cards", len(drives), len(cards)))
	}
	boot["initrd_path"] = "initrd"
	drives[0]["path_on_host"], drives[2]["path_on_host"] = "/dev/mapper/byhand", "work.img"
	if stock != nil {
		boot["kernel_image_path"], boot["boot_args"] = stock.kernel, "root=/dev/vda ro "+boot["boot_args"].(string)
		drives = drives[:1]
	}
	cards[0]["host_dev_name"], cards[0]["guest_mac"] = handTap, handMAC
	err = errors.Join(put("machine-config", m.config["machine-config"]), put("boot-source", boot))
	for _, d := range drives {
		err = errors.Join(err, put("drives/"+d["drive_id"].(string), d))
	}
	err = errors.Join(err, put("network-interfaces/"+cards[0]["iface_id"].(string), cards[0]))
	err = errors.Join(err,
		put("vsock", map[string]any{"guest_cid": 3, "uds_path": "vsock"}),
		put("entropy", map[string]any{}),
		put("actions", map[string]any{"action_type": "InstanceStart"}))
	return b.Bytes(), err
}

// An fcHand is a VM on Firecracker by hand.
type fcHand struct {
	dir   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader

	disk, net, start, total float64 // seconds; see fcbyhand.sh
}

// boot starts a VM of the model's kind by hand, and returns when ssh(1) has run `true` in it.
func (l *labBench) boot(ctx context.Context, name string) (*fcHand, error) {
	v := &fcHand{dir: filepath.Join(l.dir, name)}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return nil, err
	}
	own := filepath.Join(v.dir, "own.cpio")
	hostKey, err := writeOwn(own, l.key.public, name, &model{guest: l.model.guest, mac: handMAC, addr: handAddress, gateway: handGateway, resolver: handResolver})
	if err != nil {
		return nil, err
	}
	initramfs, err := l.blob(banger.KindInitramfs)
	if err != nil {
		return nil, err
	}
	requests, err := l.model.requests(nil)
	if err != nil {
		return nil, err
	}
	return v, l.begin(ctx, v, requests, fmt.Sprintf("[%s]:5122 %s", handAddress, hostKey), map[string]string{
		"BASE": l.model.base, "WORK": fmt.Sprint(l.model.work), "PARTS": own + " " + initramfs, "PORT": "5122",
	})
}

// labStock is the stock image in the lab, as lab() lays it there.
const labStock = "/lab/stock"

// bootStock starts the stock image by hand, on a disk of the same size.
func (l *labBench) bootStock(ctx context.Context, name string) (*fcHand, error) {
	v := &fcHand{dir: filepath.Join(l.dir, name)}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return nil, err
	}
	hostKey, err := os.ReadFile(filepath.Join(labStock, "host.pub"))
	if err != nil {
		return nil, err
	}
	requests, err := l.model.requests(&stockImage{kernel: filepath.Join(labStock, "vmlinux")})
	if err != nil {
		return nil, err
	}
	return v, l.begin(ctx, v, requests, handAddress+" "+string(hostKey), map[string]string{
		"BASE": filepath.Join(labStock, "disk.ext4"), "WORK": "", "PARTS": filepath.Join(labStock, "initrd.img"), "PORT": "22",
	})
}

// begin lays what the script wants to find, and runs it.
func (l *labBench) begin(ctx context.Context, v *fcHand, requests []byte, known string, env map[string]string) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	env["OWNER"], env["SIZE"], env["TAP"], env["CARD"], env["ADDRESS"] = me.Username, fmt.Sprint(l.model.disk), handTap, handTapMAC, handAddress
	env["NETWORK"] = strings.Join([]string{"byhand", me.Uid, "byhand", "02:00:00:00:00:01", "byhand", handGateway, handResolver, handSubnet, "20053", handUplink, "byhand_up"}, " ")
	err = errors.Join(os.Symlink(l.key.file, filepath.Join(v.dir, "key")),
		os.WriteFile(filepath.Join(v.dir, "requests"), requests, 0o600), os.WriteFile(filepath.Join(v.dir, "known_hosts"), []byte(known), 0o600))
	if err != nil {
		return err
	}
	return v.begin(ctx, env)
}

// begin runs the script until it says that the VM is ready.
func (v *fcHand) begin(ctx context.Context, env map[string]string) (err error) {
	args := []string{"-n", "env"}
	for name, value := range env {
		args = append(args, name+"="+value)
	}
	v.cmd = exec.CommandContext(ctx, "sudo", append(args, "/lab/bench/fcbyhand.sh", v.dir)...)
	var stderr bytes.Buffer
	v.cmd.Stderr = &stderr
	stdin, err := v.cmd.StdinPipe()
	if err != nil {
		return err
	}
	v.stdin = stdin
	v.cmd.Cancel = stdin.Close
	stdout, err := v.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	v.out = bufio.NewReader(stdout)
	if err := v.cmd.Start(); err != nil {
		return err
	}
	line, err := v.out.ReadString('\n')
	if _, serr := fmt.Sscanf(line, "ready %f %f %f %f", &v.disk, &v.net, &v.start, &v.total); serr != nil {
		return fmt.Errorf("boot by hand: %w\n%s", errors.Join(err, v.end()), &stderr)
	}
	return nil
}

// stop has a VM that has come up powered off and all that it had taken away; it returns how
// long that took, seconds.
func (v *fcHand) stop() (s float64, err error) {
	if _, err := io.WriteString(v.stdin, "stop\n"); err != nil {
		return 0, err
	}
	line, err := v.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(line, "stopped %f", &s)
	return s, err
}

// end ends the VM, if it runs, and all that it had.
func (v *fcHand) end() error {
	v.stdin.Close()
	return errors.Join(v.cmd.Wait(), exec.Command("sudo", "-n", "rm", "-r", v.dir).Run())
}
