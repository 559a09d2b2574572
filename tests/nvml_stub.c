/* A libnvidia-ml.so.1 for tests: hosts without a GPU answer as one with GPUs does, below the real nvidia-ml-py.
 *
 * NVML_HOST names the host. Structures are laid out as in NVML's public header; a function that is missing here is one that
 * an old driver does not have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK, UNINITIALIZED, INVALID, UNSUPPORTED, DENIED, NO_FUNCTION = 13, LOST = 15, MISMATCH = 18, UNKNOWN = 999 };
enum { SWITCH, BRIDGE };                    /* what is at the other end of an NVLink */
enum { PAYLOAD = 1, PER_LINK = 2 };         /* which NVLink counters the card has */

typedef struct {
  const char *host, *card;
  int gpus, lost, init, refusal;            /* lost: that index, -1 none; refusal: what every question gets */
  int links, version, joined, counters;
  unsigned near, far;                       /* nvmlGpuP2PStatus_t within a pair of neighbours, and beyond */
  unsigned near_level, far_level;           /* nvmlGpuTopologyLevel_t */
  unsigned mig, generation, max_generation;
} Host;

static const Host HOSTS[] = {
  {"hgx", "NVIDIA H100 80GB HBM3", 8, -1, OK, OK, 18, 6, SWITCH, PAYLOAD, 0, 0, 40, 50, 0, 5, 5},
  {"bridge", "NVIDIA A100 80GB PCIe", 4, -1, OK, OK, 12, 5, BRIDGE, PAYLOAD, 0, 3, 10, 50, 0, 4, 4},
  {"chipset", "NVIDIA A10", 4, -1, OK, OK, 0, 0, SWITCH, 0, 1, 1, 10, 50, 0, 4, 4},
  {"geforce", "NVIDIA GeForce RTX 4090", 4, -1, OK, OK, 0, 0, SWITCH, 0, 2, 2, 30, 50, 0, 1, 4},
  {"disabled", "NVIDIA L40S", 4, -1, OK, OK, 0, 0, SWITCH, 0, 4, 4, 10, 50, 0, 4, 4},
  {"lost", "NVIDIA H100 80GB HBM3", 8, 3, OK, OK, 18, 6, SWITCH, PAYLOAD, 0, 0, 40, 50, 0, 5, 5},
  {"denied", "NVIDIA H100 PCIe", 2, -1, OK, DENIED, 0, 0, SWITCH, 0, 0, 0, 50, 50, 0, 5, 5},
  {"mig", "NVIDIA H100 80GB HBM3", 1, -1, OK, OK, 0, 0, SWITCH, 0, 5, 5, 50, 50, 1, 5, 5},
  {"blackwell", "NVIDIA B200", 8, -1, OK, OK, 18, 7, SWITCH, PER_LINK, 0, 0, 40, 50, 0, 5, 5},
  {"uncounted", "NVIDIA B200", 2, -1, OK, OK, 18, 7, SWITCH, 0, 0, 0, 40, 50, 0, 5, 5},
  {"mismatch", "", 0, -1, MISMATCH, OK, 0, 0, SWITCH, 0, 0, 0, 0, 0, 0, 0, 0},
  {"broken", "", 0, -1, UNKNOWN, OK, 0, 0, SWITCH, 0, 0, 0, 0, 0, 0, 0, 0},
};

static const Host *here(void) {
  const char *name = getenv("NVML_HOST");
  for (size_t i = 0; i < sizeof HOSTS / sizeof *HOSTS; i++)
    if (name && !strcmp(HOSTS[i].host, name)) return HOSTS + i;
  abort(); /* a test's slip must not look like a driver's answer */
}

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct {
  unsigned field, scope;
  long long timestamp, latency;
  unsigned type;
  int status;
  union { double d; unsigned long long ull; } value;
} Field;

static int index_of(void *gpu) { return (int)((long)gpu - 1); }
#define ASKED do { if (here()->refusal) return here()->refusal; } while (0)

int nvmlInitWithFlags(unsigned flags) { (void)flags; return here()->init; }
int nvmlInit_v2(void) { return here()->init; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
  switch (code) {
    case UNSUPPORTED: return "Not Supported";
    case DENIED: return "Insufficient Permissions";
    case INVALID: return "Invalid Argument";
    case NO_FUNCTION: return "Function Not Found";
    case LOST: return "GPU is lost";
    case MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}
int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "580.95.05"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)here()->gpus; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
  if ((int)index == here()->lost) return LOST;
  if ((int)index >= here()->gpus) return INVALID;
  *gpu = (void *)((long)index + 1);
  return OK;
}
int nvmlDeviceGetName(void *gpu, char *text, unsigned length) { (void)gpu; snprintf(text, length, "%s", here()->card); return OK; }
int nvmlDeviceGetMemoryInfo(void *gpu, Memory *memory) {
  (void)gpu; ASKED;
  memory->total = 80ull << 30; memory->used = 1ull << 30; memory->free = memory->total - memory->used;
  return OK;
}
static void place(char *text, int index) { snprintf(text, 32, "00000000:%02X:00.0", 0x10 + index); }
int nvmlDeviceGetPciInfo_v3(void *gpu, Pci *pci) {
  ASKED;
  memset(pci, 0, sizeof *pci);
  place(pci->bus_id, index_of(gpu));
  return OK;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *gpu, unsigned *least, unsigned *most) {
  (void)gpu; ASKED; *least = 200000; *most = 700000; return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *limit) { (void)gpu; ASKED; *limit = 700000; return OK; }
int nvmlDeviceGetClockInfo(void *gpu, unsigned kind, unsigned *mhz) { (void)gpu; ASKED; *mhz = kind == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetMaxClockInfo(void *gpu, unsigned kind, unsigned *mhz) { (void)gpu; ASKED; *mhz = kind == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetCurrentClocksEventReasons(void *gpu, unsigned long long *bits) { (void)gpu; ASKED; *bits = 0; return OK; }
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *next) { (void)gpu; ASKED; *now = *next = here()->mig; return OK; }
int nvmlDeviceGetComputeMode(void *gpu, unsigned *mode) { (void)gpu; ASKED; *mode = 0; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *gpu, unsigned *value) { (void)gpu; ASKED; *value = here()->generation; return OK; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *gpu, unsigned *value) { (void)gpu; ASKED; *value = here()->max_generation; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(void *gpu, unsigned *value) { (void)gpu; ASKED; *value = 16; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *gpu, unsigned *value) { (void)gpu; ASKED; *value = 16; return OK; }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *value) { (void)gpu; ASKED; *value = 70000; return OK; }
int nvmlDeviceGetTemperature(void *gpu, unsigned sensor, unsigned *value) { (void)gpu; (void)sensor; ASKED; *value = 31; return OK; }
int nvmlDeviceGetPcieThroughput(void *gpu, unsigned way, unsigned *value) { (void)gpu; (void)way; ASKED; *value = 1234; return OK; }

static int link_error(unsigned link) { return !here()->links ? UNSUPPORTED : (int)link >= here()->links ? INVALID : OK; }
int nvmlDeviceGetNvLinkState(void *gpu, unsigned link, unsigned *active) {
  (void)gpu; ASKED; *active = 1; return link_error(link);
}
int nvmlDeviceGetNvLinkVersion(void *gpu, unsigned link, unsigned *version) {
  (void)gpu; ASKED; *version = (unsigned)here()->version; return link_error(link);
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *gpu, unsigned link, Pci *pci) {
  ASKED;
  memset(pci, 0, sizeof *pci);
  if (here()->joined == BRIDGE) place(pci->bus_id, index_of(gpu) ^ 1);
  else snprintf(pci->bus_id, 32, "00000000:%02X:00.0", 0x80 + link % 4);
  return link_error(link);
}
int nvmlDeviceGetP2PStatus(void *gpu, void *other, unsigned what, unsigned *status) {
  ASKED;
  int near = index_of(gpu) / 2 == index_of(other) / 2;
  if (what == 2) *status = here()->links && (here()->joined == SWITCH || near) ? 0 : 5; /* NVLink */
  else *status = near ? here()->near : here()->far;
  return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(void *gpu, void *other, unsigned *level) {
  ASKED; *level = index_of(gpu) / 2 == index_of(other) / 2 ? here()->near_level : here()->far_level; return OK;
}
int nvmlDeviceGetFieldValues(void *gpu, int number, Field *fields) {
  (void)gpu; ASKED;
  for (int i = 0; i < number; i++) {
    int payload = fields[i].field == 138 || fields[i].field == 139, each = fields[i].field == 202 || fields[i].field == 204;
    int known = (payload && here()->counters == PAYLOAD && fields[i].scope == 0xFFFFFFFF) ||
                (each && here()->counters == PER_LINK && (int)fields[i].scope < here()->links);
    fields[i].status = known ? OK : UNSUPPORTED;
    fields[i].value.ull = fields[i].field;
  }
  return OK;
}
