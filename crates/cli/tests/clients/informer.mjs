// @kubernetes/client-node: an informer sees what is there, what comes, changes and goes.
import { CoreV1Api, KubeConfig, makeInformer } from '@kubernetes/client-node';

const namespace = process.argv[2];
const config = new KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(CoreV1Api);

const create = (name) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name, labels: { informer: 'yes' } } } });
await create('before');

const seen = [];
let wake = () => {};
const note = (what) => (object) => {
  seen.push(`${what} ${object.metadata.name}`);
  wake();
};
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'informer=yes' });
const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'informer=yes');
informer.on('add', note('add'));
informer.on('update', note('update'));
informer.on('delete', note('delete'));
let stopping = false;
informer.on('error', (error) => {
  // To stop is to abort the watch, which it calls an error.
  if (stopping) return;
  console.error(error);
  process.exit(1);
});

const until = async (what) => {
  while (!seen.includes(what)) {
    await new Promise((resolve) => (wake = resolve));
  }
};
const patience = setTimeout(() => {
  console.error(`waited in vain; seen: ${seen.join(', ')}`);
  process.exit(1);
}, 60_000);

await informer.start();
await until('add before');
await create('after');
await until('add after');
await core.replaceNamespacedConfigMap({
  name: 'after',
  namespace,
  body: { metadata: { name: 'after', labels: { informer: 'yes' } }, data: { a: '1' } },
});
await until('update after');
await core.deleteNamespacedConfigMap({ name: 'before', namespace });
await until('delete before');
if (informer.get('after', namespace)?.data?.a !== '1' || informer.list(namespace).length !== 1) {
  console.error('the cache of the informer is not what is there');
  process.exit(1);
}
clearTimeout(patience);
stopping = true;
await informer.stop();
console.log('ok');
process.exit(0);
