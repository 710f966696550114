"""Sends GET requests at a steady rate to each of several gateways, and prints when which status came.

    steady_load.py RATE SECONDS ADDRESS:PORT…     # JSON: [[seconds since the start, gateway, status], …]

A thread and a kept-alive connection for each gateway; a connection that breaks is made anew.
"""
import http.client
import json
import sys
import threading
import time


def load(index, address, rate, seconds, start, seen):
    connection = http.client.HTTPConnection(address, timeout=5)
    for i in range(int(rate * seconds)):
        pause = start + i / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if time.monotonic() - start > seconds:
            return
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except OSError:
            status = 0
            connection.close()
        except http.client.HTTPException:
            status = 0
            connection.close()
        seen.append([time.monotonic() - start, index, status])


def main():
    rate, seconds, addresses = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    seen, start = [], time.monotonic()
    threads = [threading.Thread(target=load, args=(i, address, rate, seconds, start, seen)) for i, address in enumerate(addresses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(sorted(seen), sys.stdout)


main()
