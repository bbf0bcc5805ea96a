// Package peertest runs the Modbus driver and the server against peers that are
// not of this project: pymodbus, libmodbus and mbpoll, over TCP, RTU over TCP
// and RTU on a pair of pseudo terminals that socat connects.
//
// What is not on the machine is a skip that says so, and a failure with
// VOLTAGE_CI=1.
package peertest
