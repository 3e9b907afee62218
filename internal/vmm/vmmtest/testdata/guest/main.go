// The guest of the conformance suite, /init of a VM: it says what it sees on
// the console and ends as the word vmmtest= of the kernel's command line says.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		syscall.Mount(m[0], m[1], m[0], 0, "")
	}
	for _, m := range strings.Fields(read("/banger/modules")) {
		load("/" + m)
	}
	fmt.Printf("vmmtest: vda=%s vdb=%s ro=%s mac=%s\n", read("/sys/block/vda/size"), read("/sys/block/vdb/size"),
		read("/sys/block/vdb/ro"), read("/sys/class/net/eth0/address"))
	what := "idle"
	for _, w := range strings.Fields(read("/proc/cmdline")) {
		if v, ok := strings.CutPrefix(w, "vmmtest="); ok {
			what = v
		}
	}
	if what == "button" {
		button()
		what = "poweroff"
	}
	fmt.Println("vmmtest: up")
	if what == "echo" {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			fmt.Printf("vmmtest: got %s\n", in.Text())
		}
	}
	switch what {
	case "poweroff":
		syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	case "panic":
		syscall.Mount("/dev/vdb", "/mnt", "ext4", syscall.MS_RDONLY, "")
		load("/mnt/kernel/drivers/misc/pvpanic/pvpanic.ko")
		load("/mnt/kernel/drivers/misc/pvpanic/pvpanic-mmio.ko")
		os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "reboot":
		syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	}
	select {}
}

// button returns once somebody pressed the power button or Ctrl-Alt-Del.
func button() {
	syscall.Mount("/dev/vdb", "/mnt", "ext4", syscall.MS_RDONLY, "")
	load("/mnt/kernel/drivers/acpi/button.ko")
	load("/mnt/kernel/drivers/input/evdev.ko")
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF)
	pressed := make(chan os.Signal, 1)
	signal.Notify(pressed, syscall.SIGINT)
	f, err := os.Open("/dev/input/event0") // before it is said: nobody keeps a press for who comes later
	if err == nil {
		go func() {
			f.Read(make([]byte, 24))
			pressed <- syscall.SIGINT
		}()
	}
	fmt.Println("vmmtest: listening")
	<-pressed
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func load(module string) {
	const finitModule = 313
	if f, err := os.Open(module); err == nil {
		var none byte
		syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(&none)), 0)
	}
}
