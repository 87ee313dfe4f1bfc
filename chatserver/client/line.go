package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"
)

// Line is a connection to the line protocol. It does not reconnect: a person
// would see the connection end and make a new one. It is used by one goroutine.
type Line struct {
	conn  *tls.Conn
	input *bufio.Scanner
}

// maxLine is the longest line that is read, in bytes.
const maxLine = 1 << 20

// DialLine connects to addr, host:port. A nil config trusts the system's roots.
func DialLine(ctx context.Context, addr string, config *tls.Config) (*Line, error) {
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return NewLine(conn.(*tls.Conn)), nil
}

// NewLine speaks over a connection that is there already.
func NewLine(conn *tls.Conn) *Line {
	input := bufio.NewScanner(conn)
	input.Buffer(nil, maxLine)
	return &Line{conn: conn, input: input}
}

// Say writes one line: a command, or a message to the present room.
func (l *Line) Say(line string) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write([]byte(line + "\n"))
	return err
}

// Read is the next line of the server, io.EOF at the end.
func (l *Line) Read(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if l.input.Scan() {
		return l.input.Text(), nil
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("read a line: %w", context.Cause(ctx))
	}
	if err := l.input.Err(); err != nil {
		return "", fmt.Errorf("read a line: %w", err)
	}
	return "", io.EOF
}

// Expect reads until a line has text in it, and returns that line. The error
// tells what came instead.
func (l *Line) Expect(ctx context.Context, text string) (string, error) {
	var others []string
	for {
		line, err := l.Read(ctx)
		if err != nil {
			return "", fmt.Errorf("wait for %q, after the lines %q: %w", text, others, err)
		}
		if strings.Contains(line, text) {
			return line, nil
		}
		others = append(others, line)
	}
}

// Login says LOGIN and waits for the answer.
func (l *Line) Login(ctx context.Context, user, password string) error {
	if err := l.Say("LOGIN " + user + " " + password); err != nil {
		return err
	}
	line, err := l.Read(ctx)
	if err != nil {
		return err
	}
	if refusal, wrong := strings.CutPrefix(line, "ERROR "); wrong {
		return &RequestError{Message: refusal}
	}
	return nil
}

// Close ends the connection.
func (l *Line) Close() error { return l.conn.Close() }
