package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// simulator is the sensor. The room's temperature goes after the target.
type simulator struct {
	running sync.WaitGroup

	mu       sync.Mutex
	address  string // chosen by the first start, and kept
	listener net.Listener
	conns    map[net.Conn]bool
	frozen   bool // takes requests, answers nothing
	values   map[string]float64
}

// startSensor listens on a free port of the loopback interface.
func startSensor() (*simulator, error) {
	s := &simulator{
		address: "127.0.0.1:0",
		conns:   map[net.Conn]bool{},
		values:  map[string]float64{"temperature": 23.5, "humidity": 480, "target": 20},
	}
	return s, s.start()
}

func (s *simulator) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.listener, s.address = listener, listener.Addr().String()
	s.running.Go(func() { s.accept(listener) })
	return nil
}

// stop breaks every connection and waits for the end of all goroutines.
func (s *simulator) stop() {
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *simulator) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
}

// value returns what the sensor holds.
func (s *simulator) value(name string) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[name]
	return v, ok
}

func (s *simulator) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // stopped
		}
		s.mu.Lock()
		if listener != s.listener { // stopped meanwhile
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = true
		s.running.Go(func() { s.serve(conn) })
		s.mu.Unlock()
	}
}

func (s *simulator) serve(conn net.Conn) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
		_ = conn.Close()
	}()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		answer := s.answer(lines.Text())
		if answer == "" {
			continue
		}
		if _, err := fmt.Fprintln(conn, answer); err != nil {
			return
		}
	}
}

// answer acts on one request.
func (s *simulator) answer(request string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		return ""
	}
	words := strings.Fields(request)
	switch {
	case len(words) == 2 && words[0] == "READ":
		v, ok := s.values[words[1]]
		if !ok {
			return "ERR no such value"
		}
		if words[1] == "temperature" {
			s.values["temperature"] += (s.values["target"] - v) / 10
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case len(words) == 3 && words[0] == "WRITE" && words[1] == "target":
		v, err := strconv.ParseFloat(words[2], 64)
		if err != nil || !(v >= 5 && v <= 30) {
			return "ERR out of range"
		}
		s.values["target"] = v
		return "OK"
	}
	return "ERR unknown request"
}
