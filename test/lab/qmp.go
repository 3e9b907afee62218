package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// A monitor is a connection to QEMU's machine protocol
// (https://www.qemu.org/docs/master/interop/qmp-spec.html).
type monitor struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// monitor connects to the machine's QEMU.
func (m *machine) monitor(ctx context.Context) (*monitor, error) {
	for {
		conn, err := net.Dial("unix", m.file("qmp"))
		if err == nil {
			q := &monitor{conn: conn, lines: bufio.NewScanner(conn)}
			q.lines.Scan() // the greeting
			if _, err := q.do("qmp_capabilities", nil); err != nil {
				conn.Close()
				return nil, err
			}
			return q, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("QEMU ended: %v\n%s", m.err, m.console())
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to QEMU: %w", err)
		case <-time.After(20 * time.Millisecond): // until QEMU has made its socket
		}
	}
}

func (q *monitor) close() { q.conn.Close() }

type arguments map[string]any

// do does one command and returns its result, if that is an object.
func (q *monitor) do(command string, args arguments) (map[string]any, error) {
	answer, err := q.answer(command, args)
	if err != nil {
		return nil, err
	}
	result := map[string]any{}
	_ = json.Unmarshal(answer, &result) // some are none, which nobody here reads
	return result, nil
}

// answer does one command and returns its result. Events are passed over.
func (q *monitor) answer(command string, args arguments) (json.RawMessage, error) {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	for q.lines.Scan() {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(q.lines.Bytes(), &answer); err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		}
	}
	return nil, fmt.Errorf("%s: QEMU does not answer (%v)", command, q.lines.Err())
}

// until does a query over and over until its status is the one that is wanted.
func (q *monitor) until(ctx context.Context, query, status string) error {
	for {
		result, err := q.do(query, nil)
		switch {
		case err != nil:
			return err
		case result["status"] == status:
			return nil
		case result["status"] == "failed":
			return fmt.Errorf("%s: %v", query, result)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %v, not %s: %w", query, result["status"], status, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
