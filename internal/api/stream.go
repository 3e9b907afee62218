package api

import (
	"encoding/binary"
	"fmt"
	"io"
)

// StreamProtocol is what vm.exec upgrades the connection to: frames in both
// directions, each one byte of type, four of length (big endian), the payload.
const StreamProtocol = "banger-exec/1"

// MaxFrame bounds a frame's payload, bytes.
const MaxFrame = 64 << 10

type FrameType byte

const (
	FrameStdin  FrameType = 0 // to the guest; an empty one is end of file
	FrameStdout FrameType = 1
	FrameStderr FrameType = 2
	FrameResize FrameType = 3 // JSON Resize
	FrameSignal FrameType = 4 // a name without SIG, as "INT"
	FrameExit   FrameType = 5 // JSON ExecExit; the last one
	FrameAck    FrameType = 6 // from the guest: four bytes (big endian), how many more of stdin were read
)

// StdinWindow is how many bytes of stdin a client may send before the guest's
// command has read them (FrameAck). Without a window, stdin that a command does
// not read would fill the connection, and Ctrl-C could not overtake it.
const StdinWindow = 256 << 10

type Resize struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// An ExecExit says how a guest's command ended. Exactly one of the three holds.
type ExecExit struct {
	Code   int        `json:"code"`
	Signal string     `json:"signal,omitempty"` // name without SIG: a signal ended it
	Error  *ErrorBody `json:"error,omitempty"`  // banger's own failure; the command's fate is unknown
}

// WriteFrame writes one frame with a single Write. Callers serialise.
func WriteFrame(w io.Writer, t FrameType, p []byte) error {
	if len(p) > MaxFrame {
		return fmt.Errorf("frame of %d bytes, limit %d", len(p), MaxFrame)
	}
	b := make([]byte, 5+len(p))
	b[0] = byte(t)
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	copy(b[5:], p)
	_, err := w.Write(b)
	return err
}

// ReadFrame reads one frame into buf, which must hold MaxFrame bytes; the
// payload is valid until the next call. io.EOF only between frames.
func ReadFrame(r io.Reader, buf []byte) (FrameType, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > MaxFrame || int(n) > len(buf) {
		return 0, nil, fmt.Errorf("frame of %d bytes, limit %d", n, MaxFrame)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return FrameType(h[0]), buf[:n], nil
}
