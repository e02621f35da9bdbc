#!/usr/bin/python3
"""On the pretend machine, outside the walls: reads JSON lines on stdin, answers each with one on stdout.

  {"control": SOURCE}      runs a probe in a process of its own: the control
  {"post": BODY, ...}      asks the plugin to run a command, with "port" and "token"
  {"listen": NAME}         listens on an abstract UNIX socket and answers when somebody connects
  {"mark": TEXT}           sends a datagram on the wire and on the loopback
"""
import http.client, json, os, socket, sys, threading

LOCK = threading.Lock()


def say(answer):
    with LOCK:
        print(json.dumps(answer), flush=True)


def control(source):
    here, there = os.pipe()
    if os.fork() == 0:
        os.close(here)
        scope = {}
        try:
            exec(source, scope)
            text = str(scope.get('result'))
        except BaseException as error:
            text = 'the probe failed: %r' % error
        os.write(there, text.encode()[:60000])
        os._exit(0)
    os.close(there)
    with os.fdopen(here, 'rb') as pipe:
        text = pipe.read().decode()
    os.wait()
    return text


def post(body, port, token):
    call = http.client.HTTPConnection('127.0.0.1', port, timeout=140, source_address=('127.0.0.9', 0))
    call.request('POST', '/api/x/does-as-told/do', body.encode(), {'authorization': 'Bearer ' + token})
    return call.getresponse().read().decode()


def listen(name, order):
    server = socket.socket(socket.AF_UNIX)
    server.bind('\0' + name)
    server.listen()
    say({'id': order, 'ok': 'listening'})
    while True:
        server.accept()[0].close()
        say({'arrived': 'abstract %s connected' % name})


print('"ready"', flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if 'listen' in order:
        threading.Thread(target=listen, args=(order['listen'], order['id']), daemon=True).start()
    elif 'mark' in order:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for to in ('10.77.0.2', '127.0.0.1'):
                s.sendto(order['mark'].encode(), (to, 9))
        say({'id': order['id'], 'ok': 'sent'})
    elif 'control' in order:
        say({'id': order['id'], 'ok': control(order['control'])})
    else:
        def later(order=order):
            try:
                say({'id': order['id'], 'ok': post(order['post'], order['port'], order['token'])})
            except Exception as error:
                say({'id': order['id'], 'ok': json.dumps({'status': -1, 'out': repr(error)})})
        threading.Thread(target=later, daemon=True).start()
