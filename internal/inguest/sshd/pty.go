package sshd

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A window is a terminal's size, in characters.
type window struct{ cols, rows uint16 }

// A ptyRequest is a terminal that was asked for.
type ptyRequest struct {
	term   string
	window window
	modes  modes
}

func parsePTY(payload []byte) (*ptyRequest, error) {
	var m struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if len(m.Term) > 128 || len(m.Modes) > 4096 {
		return nil, errors.New("too long")
	}
	return &ptyRequest{term: m.Term, window: windowOf(m.Cols, m.Rows), modes: parseModes(m.Modes)}, nil
}

func parseWindow(payload []byte) (window, error) {
	var m struct{ Cols, Rows, Width, Height uint32 }
	err := ssh.Unmarshal(payload, &m)
	return windowOf(m.Cols, m.Rows), err
}

func windowOf(cols, rows uint32) window {
	return window{cols: uint16(min(cols, 1<<16-1)), rows: uint16(min(rows, 1<<16-1))}
}

func setWindow(master *os.File, w window) bool {
	ok := false
	raw, err := master.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		ok = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: w.cols, Row: w.rows}) == nil
	})
	return ok
}

func (p *process) resize(w window) bool {
	return p.master != nil && setWindow(p.master, w)
}

// modes are terminal modes by their opcode (RFC 4254, section 8).
type modes map[byte]uint32

// parseModes reads as many as make sense: opcodes 1 to 159 have one argument.
func parseModes(s string) modes {
	m := modes{}
	for len(s) >= 5 && s[0] > 0 && s[0] < 160 {
		m[s[0]] = binary.BigEndian.Uint32([]byte(s[1:5]))
		s = s[5:]
	}
	return m
}

// Opcodes of control characters, by their index in c_cc, and of flags.
var (
	controlChars = map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
	}
	inputFlags = map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
		37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
	localFlags = map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}
	outputFlags = map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
)

// apply sets the modes; a terminal that cannot have them keeps its own.
func (m modes) apply(tty *os.File) {
	t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	for op, value := range m {
		if i, ok := controlChars[op]; ok {
			t.Cc[i] = byte(value) // 255 is "none" in SSH, 0 on Linux
			if value == 255 {
				t.Cc[i] = 0
			}
		}
		for _, set := range []struct {
			flags map[byte]uint32
			field *uint32
		}{{inputFlags, &t.Iflag}, {localFlags, &t.Lflag}, {outputFlags, &t.Oflag}} {
			if bit, ok := set.flags[op]; ok && value != 0 {
				*set.field |= bit
			} else if ok {
				*set.field &^= bit
			}
		}
	}
	unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t)
}
