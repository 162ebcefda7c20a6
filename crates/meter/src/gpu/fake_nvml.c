/* A management library with two cards, for the tests: the second is lost, or both are gone, as files beside it say. */
#include <stdio.h>
#include <string.h>
#include <stdlib.h>

typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned int gpu, memory; } utilization;

static int there(const char *name) {
    char path[4096];
    const char *dir = getenv("FAKE_NVML_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : ".", name);
    FILE *file = fopen(path, "r");
    if (file) fclose(file);
    return file != 0;
}

static unsigned long long value(const char *name, unsigned long long otherwise) {
    char path[4096];
    const char *dir = getenv("FAKE_NVML_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : ".", name);
    FILE *file = fopen(path, "r");
    if (file) { if (fscanf(file, "%llu", &otherwise) != 1) otherwise = 0; fclose(file); }
    return otherwise;
}

int nvmlInit_v2(void) { return there("no-driver") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "fake"; }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { snprintf(text, n, "550.54.14"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)value("cards", 2); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) {
    if (i == 1 && there("lost")) return 15; /* GPU_IS_LOST */
    *device = (void *)(unsigned long)(i + 1);
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned n) {
    snprintf(text, n, "Fake RTX %lu", (unsigned long)device);
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *m) {
    (void)device;
    m->total = 16ull << 30; m->used = 1ull << 30; m->free = 15ull << 30; m->reserved = 0;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { (void)device; *mw = (unsigned)value("power_mw", 287410); return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) { (void)device; *mw = 320000; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *t) { (void)device; (void)sensor; *t = 84; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, utilization *u) { (void)device; u->gpu = 98; u->memory = 40; return 0; }
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz) { (void)device; *mhz = clock == 1 ? 2505 : 1; return 0; }
int nvmlDeviceGetNumFans(void *device, unsigned *n) { (void)device; *n = 2; return 0; }
int nvmlDeviceGetFanSpeed_v2(void *device, unsigned fan, unsigned *percent) { (void)device; *percent = 40 + fan; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    (void)device;
    *bits = value("throttle", 0x1 | 0x20); /* idle bit and too hot by the driver */
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
    if ((unsigned long)device == 2) return 3; /* NOT_SUPPORTED */
    *mj = value("energy_mj", 1000000);
    return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) {
    (void)device;
    *now = *pending = (unsigned)value("mig", 0);
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *n) { (void)device; *n = 7; return 0; }
