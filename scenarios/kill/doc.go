// Package kill ends the processes of a running dataflow by SIGKILL at random moments and
// shows that nothing of it stays behind: no process (grandchildren in sessions of their own
// included), no listening port, no socket, no memfd, within three seconds.
package kill
